"""The keys of a grid file, as frozen pydantic models that refuse unknown keys.

`mmgrid.grid.file.load` turns pydantic's errors into one clear line each.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mmgrid.backbone import TinyRecipe
from mmgrid.data import Calendar
from mmgrid.data.synthetic import World, WorldDomain
from mmgrid.frozen import Frozen, Names
from mmgrid.grid.file.data import DataSpec, SyntheticSpec
from mmgrid.grid.file.families import Family
from mmgrid.grid.file.families import problems as family_problems
from mmgrid.grid.file.joint import JointTraining, joint_problems
from mmgrid.grid.file.merges import IN_ONE_GO, PHASES, MergesSpec, name_of, place_of, problems
from mmgrid.grid.file.names import not_in_grid
from mmgrid.grid.file.store import StoreSpec
from mmgrid.grid.file.variants import Variant, variant_problems
from mmgrid.paradigms import PARADIGMS, Compat
from mmgrid.paradigms.registry import check_paradigms
from mmgrid.semantic_ids.recipes import QuantiserRecipe, ResidualKMeansRecipe
from mmgrid.studies.registry import StudySpecs
from mmgrid.training.tracking import check_trackers

Target = Literal["test", "phase2"]
MostUsers = Annotated[int, Field(ge=1)]


# TOML has a date type: both 2017-07-01 and "2017-07-01" are accepted.
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
    """A tiny backbone, trained on the item texts of the domains in `corpus`."""

    kind: Literal["tiny"]
    corpus: Names | None = Field(default=None, description="default: all domains of the grid")


class PretrainedBackbone(Frozen):
    """Any causal language model in Hugging Face layout."""

    kind: Literal["pretrained"]
    path: str = Field(description="a folder, or an id on the Hugging Face hub")
    revision: str | None = None
    trust_remote_code: bool = False


BackboneSpec = Annotated[TinyBackbone | PretrainedBackbone, Field(discriminator="kind")]


OF_EMBEDDING_MODELS = ("dtype", "prompt", "batch_size")


class ItemVectorsSpec(Frozen):
    """Where item vectors come from. They embed title and description, and semantic IDs are made from them."""

    source: Literal["backbone", "sentence-transformers", "table"] = Field(
        default="backbone", description="mean hidden states of the backbone, an embedding model, or your own vectors"
    )
    path: str | None = Field(
        default=None, description="the embedding model (a folder, or an id on the hub), or the folder of the tables"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of an embedding model on the hub")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        json_schema_extra={"absent_means": "float32"},
        description="of an embedding model's weights; vectors are always float32",
    )
    prompt: str = Field(
        default="", json_schema_extra={"absent_means": ""}, description="what an embedding model reads before each text"
    )
    batch_size: int = Field(
        default=32,
        ge=1,
        json_schema_extra={"absent_means": 32},
        description="texts that an embedding model reads at once",
    )

    @model_validator(mode="after")
    def _path_fits(self) -> "ItemVectorsSpec":
        if (self.path is None) != (self.source == "backbone"):
            raise ValueError(
                f"path: source {self.source!r} "
                + (
                    "has no path; remove this key"
                    if self.path
                    else "needs the model, or the folder of <domain>.parquet"
                )
            )
        for name in OF_EMBEDDING_MODELS if self.source != "sentence-transformers" else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f'{name}: is for source = "sentence-transformers"; remove this key')
        return self


class SemanticIdsSpec(Frozen):
    """How item vectors become semantic IDs."""

    codebook: Literal["domain", "shared"] = Field(
        default="domain", description="one codebook per domain, or one for all domains together"
    )
    quantiser: QuantiserRecipe = ResidualKMeansRecipe()


class EvaluationSpec(Frozen):
    """The evaluated phase and users, and the length of their histories."""

    target: Target = "test"
    history_length: int = Field(default=25, ge=1)
    max_users: MostUsers | None = Field(
        default=None, description="a deterministic sample of test users, the same for every model"
    )
    max_users_of: dict[str, MostUsers] = Field(
        default_factory=dict, description="paradigm → its own sample, in place of `max_users`"
    )

    @field_validator("max_users_of")
    @classmethod
    def _of_known_paradigms(cls, most: dict[str, int]) -> dict[str, int]:
        check_paradigms(most)
        return most

    def most_users(self, paradigm: str) -> int | None:
        """The maximum number of test users for a paradigm; None for all."""
        return self.max_users_of.get(paradigm, self.max_users)


class ExternalCheckpoint(Frozen):
    """A checkpoint that was trained elsewhere."""

    paradigm: str
    domain: str
    phase: Literal["pretrain", "phase1", "phase2"]
    path: str = Field(description="a folder in Hugging Face layout, relative to the grid file's folder")


class TrackingSpec(Frozen):
    """Experiment trackers that follow every training. Never part of a fingerprint."""

    report_to: tuple[str, ...] = Field(default=(), description="names of trackers, as Transformers calls them")

    @field_validator("report_to")
    @classmethod
    def _installed(cls, report_to: tuple[str, ...]) -> tuple[str, ...]:
        check_trackers(report_to)
        return report_to


class TrainingSpec(Frozen):
    """How trainings run, without a change of their results. Never part of a fingerprint."""

    recompute_activations: bool = Field(
        default=False, description="whether layers compute their activations again in the backward pass"
    )
    save_minutes: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="least time between two step checkpoints; by default one minute, or what makes saving 2 % of the time",
    )


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
    joint: tuple[JointTraining, ...] = ()
    variants: tuple[Variant, ...] = ()
    merges: tuple[MergesSpec, ...] = ()
    families: tuple[Family, ...] = ()
    studies: tuple[StudySpecs, ...] = ()  # pyright: ignore[reportInvalidTypeForm] - made at run time
    checkpoints: tuple[ExternalCheckpoint, ...] = ()
    store: StoreSpec = StoreSpec()
    tracking: TrackingSpec = TrackingSpec()
    training: TrainingSpec = TrainingSpec()

    @property
    def all_seeds(self) -> tuple[int, ...]:
        return self.seeds or (self.seed,)

    @property
    def world(self) -> World:
        """The synthetic world of the grid's domains."""
        numbers = self.data.synthetic or SyntheticSpec()
        domains = tuple(WorldDomain(name=domain, **numbers.values(domain)) for domain in self.data.domains)
        return World(domains, seed=self.all_seeds[0], calendar=self.phases.calendar())

    @property
    def corpus_domains(self) -> tuple[str, ...]:
        """The domains whose item texts train a tiny backbone."""
        named = self.backbone.corpus if isinstance(self.backbone, TinyBackbone) else None
        return named or self.data.domains

    def recipe(self, paradigm: str, variant: Variant | None = None) -> Any:
        """The complete recipe of a paradigm: the defaults, overridden by the values of this grid and of a variant."""
        return PARADIGMS[paradigm].resolve(
            {**self.paradigms[paradigm], **(variant.set if variant else {})},
            backbone_kind=self.backbone.kind if self.backbone else "pretrained",
            history_length=None if self._official_lengths else self.evaluation.history_length,
            compat=self.compat,
        )

    def variant(self, name: str) -> Variant | None:
        """The variant of this name; None if it is a phase's."""
        return next((one for one in self.variants if one.name == name), None)

    @property
    def _names_of_models(self) -> set[str]:
        merges = {name for one in (*self.merges, *self.families) if (name := getattr(one, "name", None))}
        return {*PHASES, IN_ONE_GO, "popularity", "random", *merges}

    @property
    def _all_paradigms(self) -> list[str]:
        """The paradigms that are trained, and those of checkpoints from elsewhere."""
        return sorted({*self.paradigms, *(external.paradigm for external in self.checkpoints)})

    @property
    def _official_lengths(self) -> bool:
        """Whether history lengths are those of the official code: if `compat` asks for it and no length is set."""
        return self.compat == "official" and "history_length" not in self.evaluation.model_fields_set

    @field_validator("paradigms")
    @classmethod
    def _known_paradigms(cls, paradigms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        check_paradigms(paradigms, trained=True)
        return paradigms

    @model_validator(mode="after")
    def _world_fits(self) -> "GridSpec":
        if self.data.format != "synthetic":
            return self
        unknown = sorted(set(self.data.synthetic.domains if self.data.synthetic else ()) - set(self.data.domains))
        if unknown:
            raise ValueError(f"data.synthetic.domains: {not_in_grid(unknown, self.data.domains)}")
        try:
            _ = self.world  # making it checks the numbers
        except ValueError as error:
            raise ValueError(f"data.synthetic: {error}") from None
        return self

    @model_validator(mode="after")
    def _backbone_fits(self) -> "GridSpec":
        if unknown := sorted(set(self.corpus_domains) - set(self.data.domains)):
            raise ValueError(f"backbone.corpus: {not_in_grid(unknown, self.data.domains)}")
        without = [name for name in self.paradigms if PARADIGMS[name].from_backbone and self.backbone is None]
        if without:
            raise ValueError(f"backbone: is missing; {without[0]} is trained from one")
        if not self.paradigms and not self.checkpoints:
            raise ValueError("paradigms: is missing; add a [paradigms.NAME] to train, or [[checkpoints]]")
        return self

    @model_validator(mode="after")
    def _checkpoints_fit(self) -> "GridSpec":
        for number, external in enumerate(self.checkpoints):
            if external.domain not in self.data.domains:
                raise ValueError(f"checkpoints[{number}].domain: {not_in_grid([external.domain], self.data.domains)}")
            try:
                check_paradigms([external.paradigm])
            except ValueError as error:
                raise ValueError(f"checkpoints[{number}].paradigm: {error}") from None
        places = [(external.paradigm, external.domain, external.phase) for external in self.checkpoints]
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"checkpoints: {' '.join(place)} is named twice")
        return self

    @model_validator(mode="after")
    def _models_fit(self) -> "GridSpec":
        domains, paradigms = self.data.domains, self._all_paradigms
        phases = PHASES if self.evaluation.target == "test" else PHASES[:-1]
        for number, key, problem in problems(self.merges, domains, paradigms, phases):
            raise ValueError(f"{place_of(number, getattr(self.merges[number], 'name', None), key)}: {problem}")
        named = {place: name_of(entry, phases) for place, entry in enumerate(self.merges)}
        merges = {name: place for place, name in named.items() if name}
        for number, key, problem in family_problems(self.families, merges, domains, paradigms):
            raise ValueError(f"{place_of(number, self.families[number].name, key, 'families')}: {problem}")
        for number, key, problem in joint_problems(self.joint, domains, paradigms):
            raise ValueError(f"joint[{number}]{key}: {problem}")
        recipes = {name: recipe.model_fields for name in self.paradigms if (recipe := PARADIGMS[name].recipe)}
        for number, key, problem in variant_problems(self.variants, domains, recipes, self._names_of_models):
            raise ValueError(f"variants[{number}]{key}: {problem}")
        return self

    @model_validator(mode="after")
    def _studies_fit(self) -> "GridSpec":
        domains = self.data.domains
        for number, study in enumerate(self.studies):
            for field, known in (("domains", domains), ("paradigms", self._all_paradigms)):
                unknown = sorted(set(getattr(study, field) or ()) - set(known))
                if unknown:
                    raise ValueError(f"studies[{number}].{field}: {not_in_grid(unknown, known)}")
            unknown = sorted({domain for pair in getattr(study, "pairs", None) or () for domain in pair} - set(domains))
            if unknown:
                raise ValueError(f"studies[{number}].pairs: {not_in_grid(unknown, domains)}")
        return self

    @model_validator(mode="after")
    def _seeds_differ(self) -> "GridSpec":
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is named twice")
        return self
