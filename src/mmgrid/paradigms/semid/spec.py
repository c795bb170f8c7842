"""The recipe and the spec of `semid`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from mmgrid.backbone.shape import Shape
from mmgrid.decoding.renormalise import Renormalise
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import MicroBatch
from mmgrid.paradigms.recipe import OFFICIAL_TRAINING, DialogueRecipe
from mmgrid.paradigms.semid.layouts import LC_REC
from mmgrid.paradigms.semid.work import batch, evaluation_work, training_work
from mmgrid.paradigms.shared.engine_options import Engine, check_engine
from mmgrid.paradigms.spec import ParadigmSpec
from mmgrid.paradigms.work import Work

MODEL_VALUES = ("text_tokens", "title_tokens", "history_length", "every_position")  # stored in the model's config


class SemidRecipe(DialogueRecipe):
    """All values of semid. The defaults are the paper's, for a pretrained backbone."""

    EVALUATION = ("beam_width", "renormalise", "hits", "masked", "engine", "engine_options")

    title_tokens: int = Field(default=32, ge=1, description="tokens of a title in a dialogue")
    text_tokens: int = Field(default=64, ge=1, description="tokens of a description in a dialogue")
    weights: Literal["backbone", "drawn"] = Field(
        default="backbone",
        json_schema_extra={"absent_means": "backbone"},
        description="initial weights: the backbone, or a random model of its shape (TIGER)",
    )
    code_weight: float = Field(default=10.0, gt=0, description="weight of a code token in the loss; a word has 1")
    divisor: Literal["weights", "tokens"] = Field(
        default="weights",
        json_schema_extra={"absent_means": "weights"},
        description="what the weighted sum of the loss is divided by: the weights of the answers' tokens, or their number",
    )
    every_position: bool = Field(
        default=False, description="learn from all targets of a window at once, instead of one example per target"
    )
    mixed_tasks: bool = Field(default=True, description="histories of codes to titles, and of titles to codes")
    item_group: int = Field(default=5, ge=0, description="items per item dialogue; 0 for no item dialogues")
    replay: float = Field(default=0.1, ge=0, le=1, description="share of the item dialogues repeated in later phases")
    beam_width: int = Field(default=20, ge=1)
    renormalise: Renormalise = Field(
        default="level", description="the set over which each step's log-probabilities are normalised"
    )
    hits: Literal["item", "code"] = Field(
        default="item",
        json_schema_extra={"absent_means": "item"},
        description="what counts as a hit: the item, or any item with its code",
    )
    masked: Literal["own", "nothing"] = Field(
        default="own",
        json_schema_extra={"absent_means": "own"},
        description="what is left out of a user's list: the user's history, or nothing",
    )
    engine: Engine = Field(
        default="huggingface",
        json_schema_extra={"absent_means": "huggingface"},
        description="beam search over the model in memory, or over next tokens that vLLM scores",
    )
    engine_options: dict[str, Any] = Field(
        default={}, json_schema_extra={"absent_means": {}}, description="further arguments of `vllm.LLM`"
    )

    @model_validator(mode="after")
    def _engine_fits(self) -> "SemidRecipe":
        taken = frozenset({"model", "tokenizer", "folder", "seed", "logprobs_mode", "max_logprobs"})
        check_engine(self.engine, self.engine_options, self.evaluation_precision, taken)
        if self.engine == "vllm" and self.renormalise == "vocabulary":
            raise ValueError(
                'engine = "vllm" scores the codes of a level; set renormalise to "level" or "children", or '
                'engine = "huggingface"'
            )
        return self

    @model_validator(mode="after")
    def _hits_fit(self) -> "SemidRecipe":
        if self.hits == "code" and self.masked == "own":
            raise ValueError(
                'hits = "code" ranks codes, but masked = "own" leaves out items of the history; set masked = "nothing"'
            )
        return self


class SemidSpec(ParadigmSpec):
    """Semantic IDs (LC-Rec): a language model generates the next item's codes."""

    name = "semid"
    implementation = "mmgrid.paradigms.semid.paradigm:Semid"
    recipe = SemidRecipe
    from_backbone = True
    versions = {"evaluation": 2}  # 2: every kind of merge keeps the token rows of a shared codebook
    tiny_defaults = {
        "text_tokens": 16,
        "title_tokens": 16,
        "every_position": True,
        "targets_per_user": 1,
        "epochs": {"pretrain": 6, "phase1": 2, "phase2": 2},
        "learning_rate": {"pretrain": 3e-3, "phase1": 5e-4, "phase2": 5e-4},
        "batch_size": 32,
        "precision": "float32",
    }
    official_defaults = {
        **OFFICIAL_TRAINING,
        "history_length": 30,
        "divisor": "tokens",
        "renormalise": "children",
        "hits": "code",
        "masked": "nothing",
    }
    official_users = 5000
    training_needs = ("codes",)
    layouts = (LC_REC,)
    own_token_rows = True

    def base_values(self, recipe: SemidRecipe) -> dict[str, Any]:
        drawn = {"weights": recipe.weights} if self.draws_base(recipe) else {}
        return {name: getattr(recipe, name) for name in MODEL_VALUES} | drawn

    def draws_base(self, recipe: SemidRecipe) -> bool:
        return recipe.weights == "drawn"

    def more_training_values(self, recipe: SemidRecipe, phase: str, catalogue: str) -> dict[str, Any]:
        # Each epoch contains the dialogues of all new items, even if it repeats only a share of the others.
        later = catalogue == "open" and phase not in ("pretrain", "all")
        return recipe.averaged | ({"new_items": "told"} if later else {})

    def training_work(self, values: Any, phase: str, counts: Counts, shape: Shape | None, recomputed: bool) -> Work:
        assert shape is not None
        return training_work(values, phase, counts, shape, recomputed)

    def evaluation_work(
        self, values: Any, users: float, counts: Counts, shape: Shape | None, embedder: Shape | None
    ) -> Work:
        assert shape is not None
        return evaluation_work(values, users, counts, shape)

    def batch(self, values: Any, phase: str, counts: Counts, shape: Shape | None) -> MicroBatch:
        assert shape is not None
        return batch(values, phase, counts, shape)


SPEC = SemidSpec()
