"""Writes a value as it stands in a grid file."""

import json
from typing import Any


def toml_value(value: Any) -> str:
    """A text, number, truth value, list or mapping of such in one line of TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
