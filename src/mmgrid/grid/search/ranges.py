"""The numbers that a search may choose: places in an entry of `[[merges]]`, each with a least and a largest value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmgrid.grid.file.load import KEY, PART_OF_KEY
from mmgrid.grid.search.errors import SearchError

_FORM = re.compile(r"(?P<key>.+)=(?P<low>[^:=]+?)\.\.(?P<high>[^:=]+?)(?::(?P<kind>log|int))?")


@dataclass(frozen=True)
class Range:
    """Where a number stands, and what it may be.

    Attributes:
        key: the path of keys in the entry, joined by dots: `scale`, `options.density`, `weights.garden`,
            `towers.item.scale`, `rules.0.weights.garden`; a key with a dot is quoted, as in TOML. A path may go through
            tables that the entry leaves out.
        low, high: the least and the largest value.
        log: whether the logarithm is searched evenly.
        whole: whether only whole numbers are tried.
    """

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    @classmethod
    def parse(cls, text: str) -> Range:
        """From `KEY=LOW..HIGH`, with `:log` or `:int` behind it. `rules[0].scale` is `rules.0.scale`.

        Raises:
            SearchError: it is no range, or its key is none.
        """
        found = _FORM.fullmatch(text.strip())
        try:
            if found is None:
                raise ValueError
            low, high = float(found["low"]), float(found["high"])
            kind = found["kind"]
            whole = kind == "int"
            if not (math.isfinite(low) and math.isfinite(high)) or (whole and (low % 1 or high % 1)):
                raise ValueError
        except ValueError:
            raise SearchError(
                f"{text}: must be KEY=LOW..HIGH, e.g. scale=0.2..1.5, options.density=0.01..1:log or "
                "options.window=1..5:int"
            ) from None
        key = found["key"].strip()
        if KEY.fullmatch(key) is None:
            raise SearchError(f"{text}: {key} is no key; write it like scale, rules[0].scale or weights.'a.b'")
        if not low < high:
            raise SearchError(f"{text}: {found['low']} is not less than {found['high']}")
        if kind == "log" and low <= 0:
            raise SearchError(f"{text}: a logarithm needs values above 0")
        return cls(".".join(map(_quoted, parts_of(key))), low, high, kind == "log", whole)

    def value(self, number: float) -> float | int:
        """A number as the recipe holds it: rounded to six digits, so that it can be written down."""
        return int(number) if self.whole else float(f"{number:.6g}")


def parts_of(key: str) -> list[str]:
    """The keys on a path, without their quotes; an index is a key, too."""
    found = (index or name for index, name in (part.groups("") for part in PART_OF_KEY.finditer(key)))
    return [part.strip(part[0]) if part[:1] in ("'", '"') else part for part in found]


def _quoted(part: str) -> str:
    if "." not in part:
        return part
    return f"'{part}'" if '"' in part else f'"{part}"'


def read(entry: Mapping[str, Any], key: str) -> float | None:
    """The number at a place of an entry; None where there is none."""
    value: Any = entry
    for part in parts_of(key):
        if isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def changed(entry: Mapping[str, Any], values: Mapping[str, float | int]) -> dict[str, Any]:
    """The entry with these numbers at these places; tables that are missing are added.

    Raises:
        SearchError: a place does not exist, or holds something else than a number.
    """
    found: Any = _copied(entry)
    for key, number in values.items():
        *above, last = parts_of(key)
        place = found
        for part in above:
            place = _below(place, part, key)
        if isinstance(place, list):
            if not last.isdecimal() or int(last) >= len(place):
                raise SearchError(f"{key}: the list has {len(place)} entries, from 0")
            place[int(last)] = number
        else:
            old = place.get(last)
            if old is not None and (isinstance(old, bool) or not isinstance(old, int | float)):
                raise SearchError(f"{key}: is {old!r} and no number")
            place[last] = number
    return found


def _below(place: Any, part: str, key: str) -> Any:
    if isinstance(place, list):
        if not part.isdecimal() or int(part) >= len(place):
            raise SearchError(f"{key}: there is no entry {part}; the list has {len(place)}, from 0")
        return place[int(part)]
    if place.get(part) is None:
        place[part] = {}
    if not isinstance(place[part], dict | list):
        raise SearchError(f"{key}: {part} is {place[part]!r} and holds no numbers")
    return place[part]


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list | tuple) else value
