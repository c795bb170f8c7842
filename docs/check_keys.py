"""The tables of grid-file.md and merging/recipes.md against the models that read grid files and recipes.

The pages are written by hand, so that they read well wherever they are opened; this check, run by every build of the
documentation, sees that each table names the keys that there are, with the defaults that they have.  A table is
announced by a comment: `<!-- keys: mmgrid.grid.file.spec.DataSpec -->`, with `without=name,name` for keys that are
told of elsewhere, and `tiny=paradigm` where a column holds the defaults that go with a tiny backbone.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.util import logging

from mmgrid.paradigms.recipes import RECIPES, TINY_DEFAULTS

PAGES = tuple(Path(__file__).parent / name for name in ("grid-file.md", "merging/recipes.md"))
ANNOUNCED = re.compile(r"<!-- keys: ([\w.]+)(?: without=([\w,]+))?(?: tiny=(\w+))? -->")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|")

logger = logging.getLogger(__name__)


def check(app: Any) -> None:
    """Warn of every difference; with `--fail-on-warning` the build fails."""
    for page in PAGES:
        for problem in problems(page.read_text(encoding="utf-8")):
            logger.warning("%s: %s", page.name, problem)


def problems(text: str) -> Iterator[str]:
    """One line for each key that is missing, unknown, or has another default."""
    announced = list(ANNOUNCED.finditer(text))
    if not announced:
        yield "announces no table of keys"
    for match in announced:
        told = match[2].split(",") if match[2] else []
        expected = {name: value for name, value in _defaults(match[1]).items() if name not in told}
        rows = list(_rows(text[match.end() :]))
        written = {name: default for name, default, _ in rows}
        if match[3]:
            written, expected = _with_tiny(rows, expected, match[3])
        for name in expected.keys() | written.keys():
            if name not in written:
                yield f"{match[1]}: key {name} is not told of (default {expected[name]})"
            elif name not in expected:
                yield f"{match[1]}: there is no key {name}"
            elif written[name] != expected[name]:
                yield f"{match[1]}: {name}: the page says {written[name]}, the code {expected[name]}"


def _with_tiny(
    rows: list[tuple[str, str, str]], expected: dict[str, str], paradigm: str
) -> tuple[dict[str, str], dict[str, str]]:
    """What is written and expected, both as "default, with a tiny backbone"."""
    model, tiny = RECIPES[paradigm], TINY_DEFAULTS[paradigm]
    full = model.model_validate(tiny)
    seen = {name: text if (text := _text(getattr(full, name))) != expected[name] else "same" for name in expected}
    return (
        {name: f"{default}, {third}" for name, default, third in rows},
        {name: f"{default}, {seen[name]}" for name, default in expected.items()},
    )


def _rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Key, default and third column of each row of the first table in `text`."""
    begun = False
    for line in text.splitlines():
        if not line.startswith("|"):
            if begun:
                return
            continue
        begun = True
        row = ROW.match(line)
        if row:
            yield row[1], row[2].strip(), row[3].strip()


def _defaults(path: str) -> dict[str, str]:
    """Name → default as the page writes it, of a pydantic model or a dataclass."""
    module, _, name = path.rpartition(".")
    model = getattr(import_module(module), name)
    if not issubclass(model, BaseModel):
        return {
            field.name: _text(field.default) for field in model.__dataclass_fields__.values() if field.name != "name"
        }
    return {
        name: "needed" if field.is_required() else _text(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
    }


def _text(value: Any) -> str:
    """A default as TOML writes it, in backticks; a dash for none."""
    if value is None or value is PydanticUndefined:
        return "–"
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_none=True, by_alias=True)
        return f"`{{ {', '.join(f'{name} = {_toml(number)}' for name, number in given.items())} }}`"
    if isinstance(value, dict | tuple) and not value:
        return "empty"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:g}"
        return text.replace("e-0", "e-")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"
