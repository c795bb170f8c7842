"""`[store]`: in which form a grid keeps its checkpoints."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from mmgrid.frozen import Frozen

if TYPE_CHECKING:
    from mmgrid.families.parts import DeltaPart


class StoreSpec(Frozen):
    """How the checkpoints are stored."""

    keep: Literal["exact", "delta"] = Field(
        default="exact", description="every bit, or the change from the checkpoint before in a few bits per weight"
    )
    bits: Literal[2, 3, 4, 8] = Field(default=4, description="per weight of a change")
    group: int | None = Field(default=None, ge=8, description="weights of a row that share a scale; default: the row")

    @model_validator(mode="after")
    def _bits_are_of_changes(self) -> Self:
        given = sorted(self.model_fields_set - {"keep"})
        if given and self.keep == "exact":
            raise ValueError(f'{given[0]}: is for keep = "delta"; set that, or remove this key')
        return self

    @property
    def part(self) -> "DeltaPart | None":
        """How a change is written; None if checkpoints are stored exactly."""
        if self.keep == "exact":
            return None
        from mmgrid.families.parts import DeltaPart  # imported late: most grids store exactly

        return DeltaPart(bits=self.bits, group=self.group)
