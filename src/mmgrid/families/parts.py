"""The kinds of parts and their options, as a recipe or a grid file names them: `delta`, or `{kind: delta, bits: 4}`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field

from mmgrid.frozen import Frozen
from mmgrid.merging.arrays.names import TOWER_SUFFIX, tower_of
from mmgrid.patterns import Patterns, fits, listed

Vectors = Literal["own", "part"]


class SharedPart(Frozen):
    """The shared model's tensors in place of the domain's, which are lost."""

    kind: Literal["shared"] = "shared"


class OwnPart(Frozen):
    """Tensors as they are."""

    kind: Literal["own"] = "own"


class ExactPart(Frozen):
    """Every bit, in fewer bytes: the difference from the shared model, byte by byte, compressed."""

    kind: Literal["exact"] = "exact"


class MaskPart(Frozen):
    """One bit per weight: which elements of the shared change are the domain's.

    Attributes:
        rule: "emr", where the signs agree, or "tall", where the domain's change outweighs the rest.
        threshold: of "tall".
        rescale: λ per "model" or "tensor", such that Σ|τ| is kept, or "none". Default: model for emr, none for tall.
        vectors: "own" stores tensors of one axis as they are, "part" masks them too.
    """

    kind: Literal["mask"] = "mask"
    rule: Literal["emr", "tall"] = "emr"
    threshold: float = Field(default=0.4, ge=0, allow_inf_nan=False)
    rescale: Literal["model", "tensor", "none"] | None = None
    vectors: Vectors = "own"

    @property
    def rescaled(self) -> str:
        return self.rescale or ("model" if self.rule == "emr" else "none")


class LowRankPart(Frozen):
    """A LoRA adapter of PEFT for the linear layers; all other tensors are the shared model's.

    Attributes:
        rank: the largest rank of a layer.
        energy: the share of a layer's squared change to hold; the smallest such rank is taken, up to `rank`.
        dtype: of the adapter; "source": that of the layers.
        vectors: "shared" gives norms and biases up, so that the adapter alone is the domain; "own" keeps them.
    """

    kind: Literal["low_rank"] = "low_rank"
    rank: int = Field(default=16, ge=1)
    energy: float | None = Field(default=None, gt=0, le=1)
    dtype: Literal["source", "float32", "bfloat16", "float16"] = "source"
    vectors: Literal["shared", "own"] = "shared"


class DeltaPart(Frozen):
    """The difference from the shared model in a few bits per weight.

    Attributes:
        bits: per weight: 2, 3, 4 or 8.
        group: elements of a row that share a scale; None for whole rows.
        vectors: "own" stores tensors of one axis as they are, "part" codes them too.
    """

    kind: Literal["delta"] = "delta"
    bits: Literal[2, 3, 4, 8] = 4
    group: int | None = Field(default=None, ge=8)
    vectors: Vectors = "own"


PartOptions = Annotated[SharedPart | OwnPart | ExactPart | MaskPart | LowRankPart | DeltaPart, Discriminator("kind")]
KINDS: dict[str, type[Frozen]] = {
    "shared": SharedPart,
    "own": OwnPart,
    "mask": MaskPart,
    "low_rank": LowRankPart,
    "delta": DeltaPart,
    "exact": ExactPart,
}


def _as_options(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Part = Annotated[PartOptions, BeforeValidator(_as_options)]


class PartRule(Frozen):
    """Another part for some of the tensors.

    Attributes:
        tensors: a pattern of tensor names, such as `*.mlp.*`, or several.
        part: for them.
    """

    tensors: Patterns
    part: Part

    def fits(self, name: str) -> bool:
        return fits(name, listed(self.tensors))


class PartChoice(Frozen):
    """Which part each tensor of a domain gets: the first rule that fits, else that of its tower, else `part`.

    Attributes:
        part: for all other tensors.
        towers: tower, such as `item` (of `item_tower.…`) → its part.
        rules: for single tensors.
    """

    part: Part = Field(default_factory=DeltaPart)
    towers: dict[str, Part] = Field(default_factory=dict)
    rules: tuple[PartRule, ...] = ()

    def of(self, name: str) -> PartOptions:
        """The part of a tensor."""
        found = next((rule.part for rule in self.rules if rule.fits(name)), None)
        return found or self.towers.get(tower_of(name).removesuffix(TOWER_SUFFIX), self.part)

    def idle(self, names: Collection[str]) -> str | None:
        """Says which rule or tower is for none of the tensors of these names; None if each is for some."""
        for number, rule in enumerate(self.rules):
            if not any(map(rule.fits, names)):
                return f"rules[{number}]: no tensor is called {' or '.join(listed(rule.tensors))}"
        known = {tower_of(name).removesuffix(TOWER_SUFFIX) for name in names}
        lacking = sorted(self.towers.keys() - known)
        return f"towers: there is no tower {lacking[0]}" if lacking else None

    @property
    def all(self) -> Iterator[PartOptions]:
        """Every part that is named."""
        yield self.part
        yield from self.towers.values()
        yield from (rule.part for rule in self.rules)

    @property
    def masks(self) -> bool:
        """Whether a part is a mask, which needs the base."""
        return any(part.kind == "mask" for part in self.all)
