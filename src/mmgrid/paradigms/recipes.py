"""All values of each paradigm, with defaults by the kind of backbone; nothing here imports torch."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmgrid.decoding.renormalise import Renormalise
from mmgrid.training.recipe import Precision, Schedule, TrainingRecipe

Engine = Literal["huggingface", "vllm"]
WhichTargets = Literal["phase", "history"]
Compat = Literal["official"]


class PhaseValues(BaseModel):
    """One number for each phase in which a model is trained; `all` is for models trained in one go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pretrain: float = Field(gt=0)
    phase1: float = Field(gt=0)
    phase2: float = Field(gt=0)
    all: float | None = Field(default=None, gt=0)

    def of(self, phase: str) -> float:
        value = getattr(self, phase)
        if value is None:
            raise ValueError(f"no value is given for phase {phase!r}")
        return float(value)


class _Recipe(BaseModel):
    """What the recipes of all paradigms share: how to train in each phase.

    ASKED names the values that no training depends on: how a trained model is asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ASKED: ClassVar[tuple[str, ...]] = ()

    history_length: int = Field(default=25, ge=1, description="interactions that a model reads")
    epochs: PhaseValues
    learning_rate: PhaseValues
    batch_size: int = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_ratio: float = Field(ge=0, lt=1)
    schedule: Schedule
    precision: Precision = "float32"
    accumulation: int = Field(default=1, gt=0)

    def training(self, phase: str) -> TrainingRecipe:
        """The values of one phase, as `fit` takes them."""
        return TrainingRecipe(
            epochs=self.epochs.of(phase),
            learning_rate=self.learning_rate.of(phase),
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            warmup_ratio=self.warmup_ratio,
            schedule=self.schedule,
            precision=self.precision,
            accumulation=self.accumulation,
        )


class SembRecipe(_Recipe):
    """All values of semb; the defaults are those of the paper, for a pre-trained backbone."""

    prompt: str = "Compress the following sentence into embedding:"
    text_tokens: int = Field(default=64, ge=1, description="tokens of title and description, without the prompt")
    title_tokens: int = Field(default=48, ge=1, description="tokens of the title at most")
    negatives: int = Field(default=512, ge=1, description="uniform negatives, pooled over the batch")
    batch_negatives: bool = Field(default=False, description="take the batch's own items as negatives, too")
    epochs: PhaseValues = PhaseValues(pretrain=3, phase1=2, phase2=2)
    learning_rate: PhaseValues = PhaseValues(pretrain=1e-4, phase1=5e-5, phase2=5e-5)
    batch_size: int = Field(default=16, gt=0)
    weight_decay: float = Field(default=0.001, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    schedule: Schedule = "cosine"
    precision: Precision = "bf16"
    targets: WhichTargets = Field(
        default="phase",
        json_schema_extra={"absent_means": "phase"},
        description="what is learnt: the phase's interactions, or whole histories of whom the phase saw",
    )


class SasrecRecipe(_Recipe):
    """All values of SASRec; epochs were found on `target = "phase2"` (docs/LOG.md)."""

    hidden_size: int = Field(default=64, gt=0)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    intermediate_size: int = Field(default=256, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    epochs: PhaseValues = PhaseValues(pretrain=10, phase1=3, phase2=3, all=10)
    learning_rate: PhaseValues = PhaseValues(pretrain=1e-3, phase1=5e-4, phase2=5e-4, all=1e-3)
    batch_size: int = Field(default=128, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    schedule: Schedule = "constant"

    @model_validator(mode="after")
    def _heads_divide(self) -> "SasrecRecipe":
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}")
        return self


class _DialogueRecipe(_Recipe):
    """What text and semid share: both learn to answer, from single targets of a phase or from all of a window."""

    targets_per_user: int = Field(default=5, ge=1, description="targets of a user in pretrain; later phases take all")
    earlier_items: int = Field(default=4, ge=1, description="items that must come before a target")
    epochs: PhaseValues = PhaseValues(pretrain=3, phase1=2, phase2=2)
    learning_rate: PhaseValues = PhaseValues(pretrain=5e-5, phase1=1e-5, phase2=1e-5)
    batch_size: int = Field(default=16, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    warmup_steps: int = Field(default=50, ge=0, description="overrides the ratio where it is > 0")
    schedule: Schedule = "cosine"
    precision: Precision = "bf16"

    def training(self, phase: str) -> TrainingRecipe:
        return super().training(phase).model_copy(update={"warmup_steps": self.warmup_steps})

    def most_targets(self, phase: str) -> int | None:
        """Targets of a user at most, in a phase."""
        return self.targets_per_user if phase == "pretrain" else None


class TextRecipe(_DialogueRecipe):
    """All values of text; the defaults are those of the paper, for a pre-trained backbone."""

    ASKED = (
        "titles",
        "engine",
        "engine_options",
        "popularity_gamma",
        "popularity_half_life_days",
        "without_popularity",
        "masked",
    )

    prompt: str = "Recommend the next item to a user who has taken these items, from the oldest to the newest:"
    every_position: bool = Field(
        default=False,
        json_schema_extra={"absent_means": False},
        description="learn from all of a window's targets at once, not one example a target",
    )
    text_tokens: int = Field(default=64, ge=1, description="tokens of an item's title and description in a history")
    title_tokens: int = Field(default=32, ge=1, description="tokens of a title at most, told or generated")
    titles: int = Field(default=5, ge=1, description="titles that are generated for a user")
    engine: Engine = Field(default="huggingface", description="beam search by Transformers, or samples by vLLM")
    engine_options: dict[str, Any] = Field(
        default={}, json_schema_extra={"absent_means": {}}, description="what vLLM is started with"
    )
    popularity_gamma: float = Field(default=0.0, ge=0, description="γ of the popularity factor; 0 leaves it out")
    popularity_half_life_days: float = Field(default=30.0, gt=0)
    without_popularity: Literal["kept", "left_out"] = Field(
        default="kept",
        json_schema_extra={"absent_means": "kept"},
        description="items that nobody took yet, where there is a popularity factor",
    )
    masked: Literal["own", "others"] = Field(
        default="own",
        json_schema_extra={"absent_means": "own"},
        description="whose history is left out of a user's list: its own, or that of whoever stands in its place",
    )

    @model_validator(mode="after")
    def _engine_options_fit(self) -> "TextRecipe":
        if self.engine_options and self.engine != "vllm":
            raise ValueError('engine_options are those of vLLM; set engine = "vllm", or leave them out')
        if taken := sorted(self.engine_options.keys() & {"model", "tokenizer", "folder", "title_tokens", "seed"}):
            raise ValueError(f"engine_options: {taken[0]} is said elsewhere, and cannot be said again")
        try:
            json.dumps(self.engine_options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"engine_options: {error}; take texts, numbers, booleans, lists and tables") from None
        return self


class SemidRecipe(_DialogueRecipe):
    """All values of semid; the defaults are those of the paper, for a pre-trained backbone."""

    ASKED = ("beam_width", "renormalise", "hits", "masked")

    title_tokens: int = Field(default=32, ge=1, description="tokens of a title in a dialogue")
    text_tokens: int = Field(default=64, ge=1, description="tokens of a description in a dialogue")
    weights: Literal["backbone", "drawn"] = Field(
        default="backbone",
        json_schema_extra={"absent_means": "backbone"},
        description="what training begins with: the backbone, or a model of its shape drawn anew (TIGER)",
    )
    code_weight: float = Field(default=10.0, gt=0, description="weight of a code token in the loss; a word has 1")
    every_position: bool = Field(
        default=False, description="learn from all of a window's targets at once, not one example a target"
    )
    mixed_tasks: bool = Field(default=True, description="histories of codes to titles, and of titles to codes")
    item_group: int = Field(default=5, ge=0, description="items of one item dialogue; 0 for no item dialogues")
    replay: float = Field(default=0.1, ge=0, le=1, description="share of the item dialogues repeated in later phases")
    beam_width: int = Field(default=20, ge=1)
    renormalise: Renormalise = Field(default="level", description="over what a step's log-probabilities are normalised")
    hits: Literal["item", "code"] = Field(
        default="item",
        json_schema_extra={"absent_means": "item"},
        description="what counts as a hit: the item, or any item of its code",
    )
    masked: Literal["own", "nothing"] = Field(
        default="own",
        json_schema_extra={"absent_means": "own"},
        description="what is left out of a user's list: its own history, or nothing",
    )

    @model_validator(mode="after")
    def _hits_fit(self) -> "SemidRecipe":
        if self.hits == "code" and self.masked == "own":
            raise ValueError('hits: "code" counts codes, of which a history masks only items; set masked = "nothing"')
        return self


Recipe = SembRecipe | SasrecRecipe | TextRecipe | SemidRecipe

RECIPES: dict[str, type[SembRecipe] | type[SasrecRecipe] | type[TextRecipe] | type[SemidRecipe]] = {
    "text": TextRecipe,
    "semid": SemidRecipe,
    "semb": SembRecipe,
    "sasrec": SasrecRecipe,
}

# With a tiny backbone each paradigm has defaults of its own, found on target = "phase2" (docs/LOG.md).
TINY_DEFAULTS: dict[str, dict[str, Any]] = {
    "semb": {
        "text_tokens": 32,
        "title_tokens": 32,
        "negatives": 64,
        "batch_negatives": True,
        "epochs": {"pretrain": 3, "phase1": 2, "phase2": 2},
        "learning_rate": {"pretrain": 3e-4, "phase1": 1.5e-4, "phase2": 1.5e-4},
        "batch_size": 16,
        "precision": "float32",
    },
    "text": {
        "text_tokens": 16,
        "title_tokens": 16,
        "every_position": True,
        "epochs": {"pretrain": 4, "phase1": 2, "phase2": 2},
        "learning_rate": {"pretrain": 4e-3, "phase1": 1e-3, "phase2": 1e-3},
        "batch_size": 32,
        "precision": "float32",
    },
    "semid": {
        "text_tokens": 16,
        "title_tokens": 16,
        "every_position": True,
        "targets_per_user": 1,
        "epochs": {"pretrain": 6, "phase1": 2, "phase2": 2},
        "learning_rate": {"pretrain": 3e-3, "phase1": 5e-4, "phase2": 5e-4},
        "batch_size": 32,
        "precision": "float32",
    },
}

# What the paper's official code does otherwise, under compat = "official" (docs/paradigms.md).
OFFICIAL_DEFAULTS: dict[str, dict[str, Any]] = {
    "text": {
        "history_length": 30,
        "popularity_gamma": 0.25,
        "popularity_half_life_days": 30.0,
        "without_popularity": "left_out",
        "masked": "others",
    },
    "semid": {"history_length": 30, "renormalise": "children", "hits": "code", "masked": "nothing"},
    "semb": {"history_length": 25, "targets": "history"},
}
OFFICIAL_USERS = {"text": 5000, "semid": 5000}  # test users at most


def resolve(
    paradigm: str,
    given: Mapping[str, Any],
    *,
    backbone_kind: str,
    history_length: int | None = None,
    compat: Compat | None = None,
) -> Recipe:
    """The full recipe of a paradigm: what is given, over the defaults for the kind of backbone, and for `compat`.

    Values per phase may be given in part (`epochs = { phase2 = 1 }`) or as one number for all phases.
    """
    recipe = RECIPES[paradigm]
    values = TINY_DEFAULTS.get(paradigm, {}) if backbone_kind == "tiny" else {}
    values = values | (OFFICIAL_DEFAULTS.get(paradigm, {}) if compat == "official" else {})
    values = values | ({} if history_length is None else {"history_length": history_length})
    for name, value in given.items():
        field = recipe.model_fields.get(name)
        if field is not None and field.annotation is PhaseValues:
            value = _per_phase(value, values.get(name) or field.default)
        values = values | {name: value}
    return recipe.model_validate(values)


def _per_phase(given: Any, default: Any) -> Any:
    whole = default.model_dump(exclude_none=True) if isinstance(default, PhaseValues) else dict(default)
    if isinstance(given, Mapping):
        return whole | dict(given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return dict.fromkeys(whole, given)
    return given


def model_values(recipe: Recipe) -> dict[str, Any]:
    """The values that shape a paradigm's untrained model, apart from how it is trained."""
    names: tuple[str, ...] = ()
    if isinstance(recipe, SembRecipe | TextRecipe):
        names = ("prompt", "text_tokens", "title_tokens", "history_length")
    if isinstance(recipe, TextRecipe) and recipe.every_position:
        names = (*names, "every_position")
    if isinstance(recipe, SemidRecipe):
        names = ("text_tokens", "title_tokens", "history_length", "every_position")
    return {name: getattr(recipe, name) for name in names}
