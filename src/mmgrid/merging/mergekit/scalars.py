"""Single values of a mergekit file: numbers and truth values in all the forms that mergekit reads."""

import math
from collections.abc import Mapping
from typing import Any

from mmgrid.merging.errors import MergeError

_TRUTH: Mapping[str, bool] = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0", "0.0"), False),
}


def scalar_of(value: Any, kind: type, where: str) -> Any:
    """A single value in its type: float, int or bool. `1e-3` is a number, although YAML reads it as text.

    Raises:
        MergeError: it has another type, or is not finite.
    """
    if kind is bool:
        return truth(value, where)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise MergeError(f"{where}: {value!r} must be a finite number")
    if kind is int:
        if number != int(number):
            raise MergeError(f"{where}: {value!r} must be a whole number")
        return int(number)
    return number


def truth(value: Any, where: str) -> bool:
    """A truth value, also as a number or a word; mergekit-evolve writes 1.0.

    Raises:
        MergeError: it is another number or word.
    """
    known = _TRUTH.get(str(value).strip().lower())
    if known is None:
        raise MergeError(f"{where}: {value!r} must be true or false")
    return known


def whole(value: Any) -> int | None:
    """A whole number, also as text or as 4.0; None of anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None
