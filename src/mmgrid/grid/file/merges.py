"""The keys of `[[merges]]`: a recipe of `mmgrid merge` with the grid's own names for its models, and two short forms.

A model is called by its domain (`garden`, its newest checkpoint), by domain and phase (`garden/phase1`), or by its phase
(`phase1`, the checkpoint of the domain that is served, so that each domain has its own merge). The words of a recipe
(method, options, weights, scale, rules, base) keep their meaning; `towers` and `layers` are rules with shorter names.
"""

import difflib
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    PlainValidator,
    Tag,
    field_validator,
    model_validator,
)

from mmgrid.frozen import Frozen, Names, SeveralNames
from mmgrid.grid.file.names import folder_name, not_in_grid
from mmgrid.patterns import Patterns


def _scale(value: Any) -> float | tuple[float, ...]:
    numbers = value if isinstance(value, list | tuple) else [value]
    if not numbers or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
        raise ValueError(f"should be a number, or a list of numbers that is spread over the depth (it is {value!r})")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"should be finite (it is {value!r})")
    return float(value) if isinstance(value, int | float) else tuple(map(float, numbers))


Finite = Annotated[float, Field(allow_inf_nan=False)]
Scale = Annotated[float | tuple[float, ...], PlainValidator(_scale)]
Take = Literal["merge", "own"]

PHASES = ("pretrain", "phase1", "phase2")  # the phases that have checkpoints
IN_ONE_GO = "all"  # in place of a phase: the model that is trained once, on everything
BACKBONE, HISTORICAL, NEUTRAL = "backbone", "historical", "neutral"  # bases
OWN, OTHERS = "own", "others"  # in weights: the sources of the served domain, and the rest
RESERVED = (*PHASES, IN_ONE_GO, BACKBONE, HISTORICAL, NEUTRAL, OWN, OTHERS)

LAYERS = re.compile(r"(?:(?P<tower>\w+)/)?(?:(?P<first>\d+)(?:-(?P<last>\d+))?|outside)")
"""The places of `layers`: `0`, `0-3` (both included) or `outside` (of all layers), in one tower with `item/` before."""


class Settings(Frozen):
    """How some of the tensors are merged; what is left out is the merge's own. `"own"` alone stands for `take = "own"`."""

    take: Take = Field(
        default="merge", description="`own`: these tensors are those of the served domain's newest model"
    )
    method: str | None = None
    options: dict[str, JsonValue] | None = None
    scale: Scale | None = None
    base: str | None = None
    weights: dict[str, Finite] | None = None

    @model_validator(mode="after")
    def _own_is_not_merged(self) -> "Settings":
        given = sorted(name for name in Settings.model_fields if name != "take" and getattr(self, name) is not None)
        if self.take == OWN and given:
            raise ValueError(f'take = "own" copies the tensors, so {", ".join(given)} would have no effect; remove it')
        return self


class Rule(Settings):
    """Settings for the tensors whose names fit a pattern."""

    tensors: Patterns = Field(description="a pattern of names, or several")


def _written_out(value: Any) -> Any:
    return {"take": value} if isinstance(value, str) else value


SettingsOrWord = Annotated[Settings, BeforeValidator(_written_out)]


class Merge(Frozen):
    """One merge, evaluated on one or more domains."""

    kind: Literal["merge"] = "merge"
    name: str = Field(min_length=1, description="its name in cells and results")
    sources: Names | None = Field(default=None, description="default: every domain")
    method: str = "linear"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    weights: dict[str, Finite] = Field(default_factory=dict)
    scale: Scale = 1.0
    base: str | None = Field(default=None, description="default: the backbone, if the method needs a base")
    towers: dict[str, SettingsOrWord] = Field(default_factory=dict)
    layers: dict[str, SettingsOrWord] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    evaluate_on: Names | None = None
    paradigms: Names | None = None
    draws: int = Field(default=1, ge=1, le=64)
    keep: bool = Field(default=False, description="store the merged checkpoints as cells")
    learn: dict[str, JsonValue] | None = Field(default=None, description="`by` a learner, and its settings")

    @field_validator("learn")
    @classmethod
    def _by_whom(cls, learn: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if learn is not None and not isinstance(learn.get("by"), str):
            raise ValueError('needs a learner: learn = { by = "mergerec" }')
        return learn

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        folder_name(name)
        if name in RESERVED:
            raise ValueError(f"{name!r} has another meaning in a merge; choose another name")
        return name

    @field_validator("layers")
    @classmethod
    def _places(cls, layers: dict[str, Settings]) -> dict[str, Settings]:
        for place in layers:
            found = LAYERS.fullmatch(place)
            if found is None:
                raise ValueError(
                    f"{place!r} is no place; write '0' for a layer, '0-3' for the layers from 0 to 3, 'outside' for what "
                    "belongs to none, and 'item/0' for a layer of one tower"
                )
            if found["last"] and int(found["last"]) < int(found["first"]):
                raise ValueError(f"{place!r}: the last layer comes before the first")
        return layers

    @property
    def all_settings(self) -> dict[str, Settings]:
        """Place in the grid file → settings for some of the tensors, in the order in which they count."""
        return {
            **{f"rules[{number}]": rule for number, rule in enumerate(self.rules)},
            **{f"layers.{place}": settings for place, settings in self.layers.items()},
            **{f"towers.{tower}": settings for tower, settings in self.towers.items()},
        }


class CrossDomainMerges(Frozen):
    """Merges of every pair of domains, evaluated on both (Fig. 3)."""

    kind: Literal["cross_domain"]
    method: str = "linear"
    weight: float = Field(default=0.5, ge=0, le=1, description="share of the domain that is evaluated")
    scale: float = 1.0
    domains: SeveralNames | None = None
    paradigms: Names | None = None
    keep: bool = Field(default=False, description="store the merged checkpoints as cells")
    options: dict[str, Any] = Field(default_factory=dict)


class TemporalMerges(Frozen):
    """For every domain, its two newest checkpoints merged across time: Θ(t1) + λ (Θ(t2) − Θ(t1)), eq. 10."""

    kind: Literal["temporal"]
    scale: Scale = Field(default=0.5, description="λ")
    name: str | None = None
    towers: dict[str, SettingsOrWord] = Field(default_factory=dict)
    layers: dict[str, SettingsOrWord] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    domains: Names | None = None
    paradigms: Names | None = None
    keep: bool = Field(default=False, description="store the merged checkpoints as cells")

    def written_out(self, phases: Sequence[str], domains: Sequence[str]) -> Merge:
        """The merge that this short form stands for. phases: the training phases, oldest first."""
        old, new = phases[-2:]
        return Merge(
            name=self.called(phases),
            sources=(new,),
            base=old,
            method="task_arithmetic",
            scale=self.scale,
            towers=self.towers,
            layers=self.layers,
            rules=self.rules,
            evaluate_on=tuple(self.domains or domains),
            paradigms=self.paradigms,
            keep=self.keep,
        )

    def called(self, phases: Sequence[str]) -> str:
        """Its name in cells and results. phases: the training phases, oldest first."""
        scales = (self.scale,) if isinstance(self.scale, int | float) else self.scale
        return self.name or f"temporal-scale{','.join(f'{scale:g}' for scale in scales)}={'+'.join(phases[-2:])}"

    @model_validator(mode="after")
    def _name_fits(self) -> "TemporalMerges":
        self.written_out(PHASES, ("any",))  # checks the name and the places of layers
        return self


def written_out(entry: Any, phases: Sequence[str], domains: Sequence[str]) -> Merge | None:
    """The merge of an entry of `[[merges]]`; None for an entry that stands for several, pairs of domains."""
    if isinstance(entry, TemporalMerges):
        return entry.written_out(phases, domains)
    return entry if isinstance(entry, Merge) else None


def name_of(entry: Any, phases: Sequence[str]) -> str | None:
    """The name of an entry of `[[merges]]`, also of a short form; None for pairs of domains. phases: of training."""
    return entry.called(phases) if isinstance(entry, TemporalMerges) else getattr(entry, "name", None)


def _kind(value: Any) -> Any:
    return value.get("kind", "merge") if isinstance(value, Mapping) else getattr(value, "kind", "merge")


MergesSpec = Annotated[
    Annotated[Merge, Tag("merge")]
    | Annotated[CrossDomainMerges, Tag("cross_domain")]
    | Annotated[TemporalMerges, Tag("temporal")],
    Discriminator(_kind),
]


def place_of(number: int, name: Any, key: str, section: str = "merges") -> str:
    """A key of an entry of `[[merges]]` as errors call it: `merges[0] (shared): towers.item`, `merges[0].weight`."""
    if isinstance(name, str) and name:
        return f"{section}[{number}] ({name})" + (f": {key}" if key else "")
    return f"{section}[{number}]" + (f".{key}" if key else "")


def problems(
    merges: Sequence[Any], domains: Sequence[str], paradigms: Collection[str], phases: Sequence[str]
) -> Iterator[tuple[int, str, str]]:
    """Number, key and problem, for each name in `[[merges]]` that the grid does not have. phases: of training."""
    named: dict[str, int] = {}
    for number, entry in enumerate(merges):
        name = name_of(entry, phases)
        if name in domains:
            yield number, "name", f"{name} is a domain; choose another name"
        if name in named:
            yield number, "name", f"merges[{named[name]}] has the same name; choose another one"
        named |= {name: number} if name and name not in named else {}
    for number, entry in enumerate(merges):
        for key, known in (("paradigms", paradigms), ("domains", domains)):
            unknown = sorted(set(getattr(entry, key, None) or ()) - set(known))
            if unknown:
                yield number, key, not_in_grid(unknown, known)
        merge = written_out(entry, phases, domains)
        if merge is not None:
            yield from ((number, key, problem) for key, problem in _names(merge, domains, named))


def _names(merge: Merge, domains: Sequence[str], named: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    known = ", ".join(domains)
    for source in merge.sources or ():
        if not is_checkpoint(source, domains):
            phases = ", ".join(PHASES)
            remedy = _near(source, domains) or (
                f"write a domain ({known}), a domain with a phase ({domains[0]}/phase1), or a phase ({phases}), which is "
                "that of each domain that is evaluated"
            )
            yield "sources", f"{source} is no checkpoint; {remedy}"
    unknown = sorted(set(merge.evaluate_on or ()) - set(domains))
    if unknown:
        yield "evaluate_on", not_in_grid(unknown, domains)
    for place, settings in {"": merge, **merge.all_settings}.items():
        key = f"{place}.base".removeprefix(".")
        base = settings.base
        if base == merge.name:
            yield key, "a merge cannot start from itself"
        elif base and base not in (BACKBONE, HISTORICAL, NEUTRAL, *named) and not is_checkpoint(base, domains):
            words = [BACKBONE, HISTORICAL, NEUTRAL, *(name for name in named if name != merge.name)]
            remedy = f"write {', '.join(words)}, or a checkpoint, such as {domains[0]}/phase1"
            yield key, f"{base} is no base; {_near(base, domains, words) or remedy}"


def _near(name: str, domains: Sequence[str], words: Sequence[str] = ()) -> str:
    """The hint `did you mean garden/phase1?` for a name that is nearly one of a model, otherwise an empty text."""
    phases = (*PHASES, IN_ONE_GO)
    known = [*words, *PHASES, *domains, *(f"{domain}/{phase}" for domain in domains for phase in phases)]
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else ""


def is_checkpoint(name: str, domains: Sequence[str]) -> bool:
    """Whether a name in `[[merges]]` is that of a checkpoint: a phase, a domain, or both."""
    domain, slash, phase = name.partition("/")
    if not slash:
        return name in PHASES or name in domains
    return domain in domains and phase in (*PHASES, IN_ONE_GO)
