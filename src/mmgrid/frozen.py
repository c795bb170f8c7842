"""The base class of all parts of a grid file, and what several of them check."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names themselves, if none is there twice; else ValueError."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} is named twice")
    return names


Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(each_once)]
SeveralNames = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(each_once)]
