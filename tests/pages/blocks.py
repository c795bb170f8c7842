"""The code blocks of a page of the documentation, and what the page says about running them.

A comment in the line before a block changes what is done with it:

    <!-- not run: REASON -->    it is only parsed
    <!-- file: NAME -->         it is written to the file NAME of the page's folder
    <!-- long -->               it is run by `make long`, not by `make test`
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.M | re.S)
_MARKS = re.compile(r"not run: .+|file: \S+|long")


@dataclass(frozen=True)
class Block:
    """A block in a language, with the line of the page at which it begins, and its mark (empty without one)."""

    language: str
    text: str
    line: int
    mark: str

    @property
    def file(self) -> str:
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else ""

    @property
    def runs(self) -> bool:
        return not self.mark.startswith("not run: ")

    @property
    def long(self) -> bool:
        return self.mark == "long"

    @property
    def commands(self) -> list[str]:
        """The lines of a console block that a user types, without their comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [re.sub(r"\s+#.*", "", line.removeprefix("$ ")).strip() for line in lines if line.startswith("$ ")]


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, in order. Raises ValueError for a mark that is none."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        mark = match["mark"] or ""
        if mark and not mark.startswith("keys: ") and not _MARKS.fullmatch(mark):
            raise ValueError(f"{page.name}:{line - 1}: <!-- {mark} --> is no mark of a block")
        found.append(Block(match["language"], match["text"], line, mark if not mark.startswith("keys: ") else ""))
    return found
