"""`[data.expected.DOMAIN]`: the size of a domain, for plans before its data are there."""

from pydantic import Field

from mmgrid.frozen import Frozen
from mmgrid.paradigms.counts import Counts


class ExpectedInteractions(Frozen):
    """Interactions of each phase."""

    pretrain: int = Field(ge=0)
    phase1: int = Field(ge=0)
    phase2: int = Field(ge=0)
    test: int = Field(ge=0)


class ExpectedDomain(Frozen):
    """What a domain is expected to hold. Never part of a fingerprint; a prepared domain's own numbers win."""

    interactions: ExpectedInteractions
    test_users: int = Field(ge=1)
    users: int | None = Field(default=None, ge=1, description="with an interaction; default: interactions / 8.5")
    items: int | None = Field(default=None, ge=1, description="of the catalogue; default: interactions / 12")
    title_characters: float | None = Field(default=None, gt=0, description="of an item's title, mean")
    description_characters: float | None = Field(default=None, ge=0, description="of an item's description, mean")

    def counts(self) -> Counts:
        """As the size of a domain."""
        known = {"title": self.title_characters, "description": self.description_characters}
        return Counts.of(self.model_dump(), {name: value for name, value in known.items() if value is not None})
