"""What holds for every value of a grid file, wherever it stands: environment variables are put in, and what no key can
mean is refused.
"""

import math
import os
import re
from typing import Any

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
MOST_LEVELS = 64


def expanded(value: Any, place: tuple[str, ...] = ()) -> Any:
    """`value` with each ${NAME} in a string replaced by that environment variable.

    Raises:
        ValueError: a variable is not set, a number is infinite or NaN, a text holds a zero byte, or tables are nested
            too deep. The message begins with the key.
    """
    key = ".".join(place)
    if len(place) > MOST_LEVELS:
        raise ValueError(f"{'.'.join(place[:4])}…: is nested more than {MOST_LEVELS} levels deep")
    if isinstance(value, dict):
        return {name: expanded(inner, (*place, str(name))) for name, inner in value.items()}
    if isinstance(value, list):
        return [expanded(inner, (*place, str(number))) for number, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}: should be a finite number (it is {value})")
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise ValueError(f"{key}: the environment variable {match[1]} is not set; set it, or write a path instead")
        return found

    if "\0" in value:
        raise ValueError(f"{key}: holds a zero byte, as no name and no path may (it is {value!r})")
    return VARIABLE.sub(variable, value)
