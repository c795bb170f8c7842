"""The base class of all parts of a grid file, and what several of them check."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names themselves, if none is there twice; else ValueError."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} is named twice")
    return names
