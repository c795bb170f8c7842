"""The configuration of a LoRA adapter, as PEFT writes it: checked before anything is read from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmgrid.merging.errors import MergeError, problem_of
from mmgrid.merging.models.file_kinds import impostor

ADAPTER_CONFIG = "adapter_config.json"
_WITHOUT_REPEATS = re.compile(r"[\w.-]*")

Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Row = Annotated[int, Field(ge=0, lt=2**31, strict=True)]


class _Form(BaseModel):
    """The forms of those settings that are read; there are many others."""

    model_config = ConfigDict(extra="allow", strict=True)

    peft_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    lora_alpha: Number = 8
    alpha_pattern: dict[str, Number] | None = None
    use_rslora: bool | None = None
    fan_in_fan_out: bool | None = None
    target_parameters: list[str] | None = None
    trainable_token_indices: list[Row] | dict[str, list[Row]] | None = None


def adapter_settings(adapter: Path) -> dict[str, Any]:
    """The configuration in an adapter's folder.

    Raises:
        MergeError: the file is not JSON, or a setting has another form than PEFT writes.
        OSError: the file cannot be read.
    """
    file = adapter / ADAPTER_CONFIG
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise MergeError(f"{file}: {impostor(file) or f'is not JSON: {error}'}") from error
    if not isinstance(value, dict):
        raise MergeError(f"{file}: is not a JSON object")
    try:
        _Form.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise MergeError(
            f"{file}: {place}: {problem_of(first)}; save the adapter again, or correct the value"
        ) from None
    return value


def alpha_of(settings: Mapping[str, Any], module: str, file: Path) -> float:
    """The α of a module: that of the first pattern that fits the end of its name, as in PEFT.

    Patterns are regular expressions of strangers. Those that can repeat something are given to an engine that takes
    time in proportion to the name's length (that of Rust, by polars).

    Args:
        file: the adapter's configuration, for errors.

    Raises:
        MergeError: a pattern is no regular expression, or one that cannot be matched in such a time.
    """
    for pattern, value in (settings.get("alpha_pattern") or {}).items():
        if _fits(pattern, module, file):
            return value
    return settings.get("lora_alpha", 8)


def _fits(pattern: str, module: str, file: Path) -> bool:
    whole = rf"(?:.*\.)?(?:{pattern})$"
    if _WITHOUT_REPEATS.fullmatch(pattern):
        return re.match(whole, module) is not None
    import polars as pl

    try:
        return bool(pl.Series([module]).str.contains(f"^{whole}")[0])
    except pl.exceptions.PolarsError as error:
        raise MergeError(
            f"{file}: alpha_pattern: {pattern!r} is no regular expression that can be matched in bounded time "
            f"({' '.join(str(error).split())}); write the names of the modules instead"
        ) from None
