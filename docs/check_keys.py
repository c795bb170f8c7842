"""Checks the tables of keys in grid-file.md, merging/recipes.md and merging/learned.md against the code.

The pages are written by hand, so that they read well. Every build of the documentation runs this check: each table must
list exactly the keys of a model in the code, with their defaults.

A comment before a table names its model: `<!-- keys: mmgrid.grid.file.data.DataSpec -->`. Two options may follow:
`without=name,name` for keys that are explained elsewhere, and `tiny=paradigm` if the third column holds the paradigm's
defaults with a tiny backbone.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.util import logging

from mmgrid.paradigms import PARADIGMS, PhaseSteps

PAGES = tuple(Path(__file__).parent / name for name in ("grid-file.md", "merging/recipes.md", "merging/learned.md"))
ANNOUNCED = re.compile(r"<!-- keys: ([\w.]+)(?: without=([\w,]+))?(?: tiny=(\w+))? -->")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|")

logger = logging.getLogger(__name__)


def check(app: Any) -> None:
    """Warn about every difference; with `--fail-on-warning` the build fails."""
    for page in PAGES:
        for problem in problems(page.read_text(encoding="utf-8")):
            logger.warning("%s: %s", page.name, problem)


def problems(text: str) -> Iterator[str]:
    """Yields a message for each key that is missing, unknown, or has another default."""
    announced = list(ANNOUNCED.finditer(text))
    if not announced:
        yield "no table of keys: no comment `<!-- keys: … -->` was found"
    for match in announced:
        model = _model(match[1])
        if model is None:
            yield f"the code has no {match[1]}; correct the comment above the table"
            continue
        elsewhere = match[2].split(",") if match[2] else []
        expected = {name: value for name, value in _defaults(model).items() if name not in elsewhere}
        rows = list(_rows(text[match.end() :]))
        written = {name: default for name, default, _ in rows}
        if match[3]:
            written, expected = _with_tiny(rows, expected, match[3])
        for name in expected.keys() | written.keys():
            if name not in written:
                yield f"{match[1]}: the page lacks the key {name} (default {expected[name]})"
            elif name not in expected:
                yield f"{match[1]}: the code has no key {name}"
            elif written[name] != expected[name]:
                yield f"{match[1]}: {name}: the page says {written[name]}, the code {expected[name]}"


def _with_tiny(
    rows: list[tuple[str, str, str]], expected: dict[str, str], paradigm: str
) -> tuple[dict[str, str], dict[str, str]]:
    """The written and the expected defaults, both as "default, default with a tiny backbone"."""
    recipe = PARADIGMS[paradigm].resolve({}, backbone_kind="tiny")
    texts = {name: _text(getattr(recipe, name)) for name in expected}
    seen = {name: "same" if text == expected[name] else text for name, text in texts.items()}
    return (
        {name: f"{default}, {third}" for name, default, third in rows},
        {name: f"{default}, {seen[name]}" for name, default in expected.items()},
    )


def _rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Yields key, default and third column of each row of the first table in `text`."""
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


def _model(path: str) -> Any:
    """The class with this dotted path; None if there is none."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return None


def _defaults(model: Any) -> dict[str, str]:
    """Name → default as the page writes it, for the fields of a pydantic model or a dataclass."""
    if not issubclass(model, BaseModel):
        return {
            field.name: _text(field.default) for field in model.__dataclass_fields__.values() if field.name != "name"
        }
    return {
        name: "needed" if field.is_required() else _text(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
    }


def _text(value: Any) -> str:
    """A default in TOML, in backticks; a dash if there is none."""
    if value is None or value is PydanticUndefined:
        return "–"
    if isinstance(value, PhaseSteps):
        given = {name: steps for name, steps in value.model_dump().items() if steps}
        return f"`{_inline(given)}`" if given else "`0`"
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_none=True, by_alias=True)
        if not given:
            return "empty"
        return f"`{_inline(given)}`"
    if isinstance(value, dict | tuple) and not value:
        return "empty"
    return f"`{_toml(value)}`"


def _inline(given: dict[str, Any]) -> str:
    return f"{{ {', '.join(f'{name} = {_toml(value)}' for name, value in given.items())} }}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:g}"
        return text.replace("e-0", "e-")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"
