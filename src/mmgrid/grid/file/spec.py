"""What is to be built, as one frozen value: the parsed and validated grid file.

Every model here forbids unknown keys; `mmgrid.grid.file.load` turns what pydantic complains of into one clear line.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mmgrid.backbone import TinyRecipe
from mmgrid.data import READERS, Calendar
from mmgrid.data.catalogue import Catalogue
from mmgrid.data.synthetic import World, WorldDomain
from mmgrid.files import safe_segment
from mmgrid.frozen import Frozen
from mmgrid.paradigms import PARADIGMS, Compat
from mmgrid.paradigms.registry import check_paradigms
from mmgrid.semantic_ids.recipes import QuantiserRecipe, ResidualKMeansRecipe
from mmgrid.studies.registry import StudySpecs

Target = Literal["test", "phase2"]
MostUsers = Annotated[int, Field(ge=1)]


class SyntheticValues(Frozen):
    """Numbers of a synthetic domain (see `mmgrid.data.WorldDomain`); what is left out has its default."""

    users: int | None = None
    items: int | None = None
    mean_interactions: float | None = None
    item_life_days: float | None = None
    drift: float | None = None
    wander: float | None = None
    popularity: float | None = None
    taste_dimensions: int | None = None
    taste_strength: float | None = None
    sequence_strength: float | None = None
    shared_words: float | None = None


class SyntheticSpec(SyntheticValues):
    """The synthetic world: numbers for all domains, and for single ones."""

    domains: dict[str, SyntheticValues] = Field(default_factory=dict)

    def values(self, domain: str) -> dict[str, Any]:
        own = self.domains.get(domain, SyntheticValues())
        return self.model_dump(exclude={"domains"}, exclude_none=True) | own.model_dump(exclude_none=True)


class DataSpec(Frozen):
    """Where the interactions and items come from, and how they are prepared."""

    format: str
    root: str | None = Field(default=None, description="folder of the raw files; not for `synthetic`")
    domains: tuple[str, ...] = Field(min_length=1)
    min_interactions: int = Field(default=5, ge=1)
    max_users: int | None = Field(default=None, ge=1, description="a deterministic sample of users, for small machines")
    catalogue: Catalogue = "closed"
    compat: Compat | None = Field(default=None, description="of the preparation alone; unset, that of the grid")
    synthetic: SyntheticSpec | None = Field(default=None, description="of the synthetic world; only for `synthetic`")

    @field_validator("domains")
    @classmethod
    def _names_of_folders(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            if safe_segment(domain) != domain:
                raise ValueError(f"{domain!r} cannot name a folder of the store; rename it to {safe_segment(domain)!r}")
        repeated = sorted({domain for domain in domains if domains.count(domain) > 1})
        if repeated:
            raise ValueError(f"named twice: {', '.join(repeated)}")
        return domains

    @model_validator(mode="after")
    def _format_and_root_fit(self) -> "DataSpec":
        formats = (*READERS, "synthetic")
        if self.format not in formats:
            raise ValueError(f"format {self.format!r} is none of {', '.join(formats)}")
        if self.format == "synthetic" and self.root is not None:
            raise ValueError("root: the synthetic world needs none; take it out")
        if self.format != "synthetic" and self.root is None:
            raise ValueError(f"root: format {self.format!r} needs the folder of the raw files")
        if self.format != "synthetic" and self.synthetic is not None:
            raise ValueError(f"synthetic: these values are for format 'synthetic', not {self.format!r}")
        return self


# TOML has dates of its own: 2017-07-01 is taken as well as "2017-07-01".
Day = Annotated[str, BeforeValidator(lambda value: value.isoformat() if isinstance(value, date) else value)]


class PhasesSpec(Frozen):
    """The four phases as half-open intervals of dates (UTC)."""

    pretrain: tuple[Day, Day]
    phase1: tuple[Day, Day]
    phase2: tuple[Day, Day]
    test: tuple[Day, Day]

    @model_validator(mode="after")
    def _no_overlap(self) -> "PhasesSpec":
        try:
            self.calendar()
        except ValueError as error:
            raise ValueError(str(error).removeprefix("phases").lstrip(". ")) from None
        return self

    def calendar(self) -> Calendar:
        return Calendar.from_dates(self.model_dump())


class TinyBackbone(TinyRecipe):
    """A tiny backbone, made from the item texts of the domains named in `corpus`."""

    kind: Literal["tiny"]
    corpus: tuple[str, ...] | None = Field(default=None, description="default: all of the grid's domains")


class PretrainedBackbone(Frozen):
    """Any causal language model in Hugging Face layout."""

    kind: Literal["pretrained"]
    path: str = Field(description="a folder, or an id on the hub")
    revision: str | None = None
    trust_remote_code: bool = False


BackboneSpec = Annotated[TinyBackbone | PretrainedBackbone, Field(discriminator="kind")]


class ItemVectorsSpec(Frozen):
    """Where the items' vectors come from, of title and description: semantic IDs are made of them."""

    source: Literal["backbone", "sentence-transformers", "table"] = Field(
        default="backbone", description="its mean hidden states, an embedding model, or vectors of your own"
    )
    path: str | None = Field(
        default=None, description="the embedding model (a folder, or an id on the hub), or the folder of the tables"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of an embedding model on the hub")

    @model_validator(mode="after")
    def _path_fits(self) -> "ItemVectorsSpec":
        if (self.path is None) != (self.source == "backbone"):
            raise ValueError(
                f"path: source {self.source!r} "
                + ("needs none; take it out" if self.path else "needs the model, or the folder of <domain>.parquet")
            )
        return self


class SemanticIdsSpec(Frozen):
    """How item vectors become codes."""

    codebook: Literal["domain", "shared"] = Field(
        default="domain", description="each domain's own, or one of all domains together"
    )
    quantiser: QuantiserRecipe = ResidualKMeansRecipe()


class EvaluationSpec(Frozen):
    """Which users are ranked for, and what a model reads of them."""

    target: Target = "test"
    history_length: int = Field(default=25, ge=1)
    max_users: MostUsers | None = Field(default=None, description="a deterministic sample, the same for every model")
    max_users_of: dict[str, MostUsers] = Field(default_factory=dict, description="by paradigm, over `max_users`")

    @field_validator("max_users_of")
    @classmethod
    def _of_known_paradigms(cls, most: dict[str, int]) -> dict[str, int]:
        check_paradigms(most)
        return most

    def most_users(self, paradigm: str) -> int | None:
        """Test users that a paradigm is asked for at most; None for all."""
        return self.max_users_of.get(paradigm, self.max_users)


class CrossDomainMerges(Frozen):
    """Every pair of domains merged and evaluated on both (Fig. 3)."""

    kind: Literal["cross_domain"]
    method: str = "linear"
    weight: float = Field(default=0.5, ge=0, le=1, description="share of the domain that is evaluated")
    scale: float = 1.0
    domains: tuple[str, ...] | None = None
    paradigms: tuple[str, ...] | None = None
    keep: bool = Field(default=False, description="keep the merged checkpoints as cells of their own")
    options: dict[str, Any] = Field(default_factory=dict)


class ExternalCheckpoint(Frozen):
    """A checkpoint that was trained elsewhere."""

    paradigm: str
    domain: str
    phase: Literal["pretrain", "phase1", "phase2"]
    path: str = Field(description="a folder in Hugging Face layout, relative to the grid file's folder")


class GridSpec(Frozen):
    """A whole grid."""

    name: str = Field(min_length=1)
    seed: int = 0
    seeds: tuple[int, ...] | None = Field(default=None, min_length=1)
    threads_per_cell: int = Field(default=1, ge=1)
    compat: Compat | None = Field(default=None, description="defaults that follow the paper's official code")
    data: DataSpec
    phases: PhasesSpec
    backbone: BackboneSpec | None = None
    paradigms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    item_vectors: ItemVectorsSpec = ItemVectorsSpec()
    semantic_ids: SemanticIdsSpec = SemanticIdsSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    merges: tuple[CrossDomainMerges, ...] = ()
    studies: tuple[StudySpecs, ...] = ()  # pyright: ignore[reportInvalidTypeForm] - made at run time
    checkpoints: tuple[ExternalCheckpoint, ...] = ()

    @property
    def all_seeds(self) -> tuple[int, ...]:
        return self.seeds or (self.seed,)

    @property
    def world(self) -> World:
        """The synthetic world that the grid's domains come from."""
        given = self.data.synthetic or SyntheticSpec()
        domains = tuple(WorldDomain(name=domain, **given.values(domain)) for domain in self.data.domains)
        return World(domains, seed=self.all_seeds[0], calendar=self.phases.calendar())

    @property
    def corpus_domains(self) -> tuple[str, ...]:
        """The domains whose texts make a tiny backbone."""
        named = self.backbone.corpus if isinstance(self.backbone, TinyBackbone) else None
        return named or self.data.domains

    def recipe(self, paradigm: str) -> Any:
        """The full recipe of a paradigm, with this grid's values over the defaults."""
        return PARADIGMS[paradigm].resolve(
            self.paradigms[paradigm],
            backbone_kind=self.backbone.kind if self.backbone else "pretrained",
            history_length=None if self._official_lengths else self.evaluation.history_length,
            compat=self.compat,
        )

    @property
    def _official_lengths(self) -> bool:
        """Whether each paradigm reads as much as in the official code: the grid says so, and names no length."""
        return self.compat == "official" and "history_length" not in self.evaluation.model_fields_set

    @field_validator("paradigms")
    @classmethod
    def _known_paradigms(cls, paradigms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        check_paradigms(paradigms, trained=True)
        return paradigms

    @model_validator(mode="after")
    def _names_fit(self) -> "GridSpec":
        domains, paradigms = set(self.data.domains), set(self.paradigms)
        if self.data.format == "synthetic":
            unknown = sorted(set(self.data.synthetic.domains if self.data.synthetic else ()) - domains)
            if unknown:
                raise ValueError(f"data.synthetic.domains: {', '.join(unknown)} is no domain of the grid")
            try:
                _ = self.world  # its numbers are checked when it is made
            except ValueError as error:
                raise ValueError(f"data.synthetic: {error}") from None
        if isinstance(self.backbone, TinyBackbone) and not set(self.corpus_domains) <= domains:
            unknown = sorted(set(self.corpus_domains) - domains)
            raise ValueError(f"backbone.corpus: {', '.join(unknown)} is no domain of the grid")
        without = [name for name in self.paradigms if PARADIGMS[name].from_backbone and self.backbone is None]
        if without:
            raise ValueError(f"backbone: is missing; {without[0]} is trained from one")
        if not paradigms and not self.checkpoints:
            raise ValueError("paradigms: is missing; name one to train, or give [[checkpoints]]")
        for number, given in enumerate(self.checkpoints):
            if given.domain not in domains:
                raise ValueError(f"checkpoints[{number}].domain: {given.domain} is not in the grid")
            try:
                check_paradigms([given.paradigm])
            except ValueError as error:
                raise ValueError(f"checkpoints[{number}].paradigm: {error}") from None
        places = [(given.paradigm, given.domain, given.phase) for given in self.checkpoints]
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"checkpoints: {' '.join(place)} is given twice")
        paradigms |= {given.paradigm for given in self.checkpoints}
        asked = [("merges", number, merge) for number, merge in enumerate(self.merges)]
        asked += [("studies", number, study) for number, study in enumerate(self.studies)]
        for kind, number, one in asked:
            for field, known in (("domains", domains), ("paradigms", paradigms)):
                unknown = sorted(set(getattr(one, field) or ()) - known)
                if unknown:
                    raise ValueError(f"{kind}[{number}].{field}: {', '.join(unknown)} is not in the grid")
            unknown = sorted({domain for pair in getattr(one, "pairs", None) or () for domain in pair} - domains)
            if unknown:
                raise ValueError(f"{kind}[{number}].pairs: {', '.join(unknown)} is not in the grid")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is named twice")
        return self
