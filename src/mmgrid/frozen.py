"""The base class of all parts of a grid file, and what several of them check."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys, numbers that are not finite, and truth values in place of numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: Any) -> Any:
        """Pydantic takes `true` for 1: `max_users = true` would be one user."""
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if name in _numbers_of(cls) and _holds_truth(value):
                raise ValueError(f"{name}: should be a number (it is {json.dumps(value, default=str)})")
        return values


@cache
def _numbers_of(model: type[BaseModel]) -> frozenset[str]:
    """The fields that take numbers, alone or in lists and tables, and no truth values."""
    kinds = {name: set(_kinds_in(field.annotation)) for name, field in model.model_fields.items()}
    return frozenset(name for name, own in kinds.items() if own & {int, float} and not own & {bool, Any, object})


def _kinds_in(annotation: Any) -> Iterator[Any]:
    """The types that an annotation names, however deep: int, `...` and None of `tuple[int, ...] | None`."""
    inner = get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]  # then what pydantic checks
    for each in inner:
        yield from _kinds_in(each)
    if not inner:
        yield annotation


def _holds_truth(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_truth, value))
    if isinstance(value, Mapping):
        return any(map(_holds_truth, value.values()))
    return isinstance(value, bool)


def each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names themselves, if none is there twice; else ValueError."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} is named twice")
    return names


Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(each_once)]
SeveralNames = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(each_once)]
