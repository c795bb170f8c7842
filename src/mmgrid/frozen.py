"""What all parts of a grid file have in common."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value of a grid file: it never changes, and knows no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
