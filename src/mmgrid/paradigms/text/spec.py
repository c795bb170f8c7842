"""The recipe and the spec of `text`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from mmgrid.backbone.shape import Shape
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import MicroBatch
from mmgrid.paradigms.recipe import OFFICIAL_TRAINING, DialogueRecipe
from mmgrid.paradigms.shared.engine_options import Engine, check_engine
from mmgrid.paradigms.spec import ParadigmSpec
from mmgrid.paradigms.text.layouts import BIGREC
from mmgrid.paradigms.text.work import batch, evaluation_work, training_work
from mmgrid.paradigms.work import Work

# Stored in the model's config.
MODEL_VALUES = ("prompt", "text_tokens", "title_tokens", "history_length", "every_position")


class TextRecipe(DialogueRecipe):
    """All values of text. The defaults are the paper's, for a pretrained backbone."""

    EVALUATION = (
        "titles",
        "engine",
        "engine_options",
        "popularity_gamma",
        "popularity_half_life_days",
        "without_popularity",
        "masked",
        "hits",
    )

    prompt: str = "Recommend the next item to a user who has taken these items, from the oldest to the newest:"
    every_position: bool = Field(
        default=False,
        json_schema_extra={"absent_means": False},
        description="learn from all targets of a window at once, instead of one example per target",
    )
    text_tokens: int = Field(default=64, ge=1, description="tokens of an item's title and description in a history")
    title_tokens: int = Field(default=32, ge=1, description="maximum tokens of a title in a prompt or an answer")
    titles: int = Field(default=5, ge=1, description="generated titles per user")
    engine: Engine = Field(default="huggingface", description="beam search by Transformers, or sampling by vLLM")
    engine_options: dict[str, Any] = Field(
        default={}, json_schema_extra={"absent_means": {}}, description="further arguments of `vllm.LLM`"
    )
    popularity_gamma: float = Field(default=0.0, ge=0, description="γ of the popularity factor; 0 turns it off")
    popularity_half_life_days: float = Field(default=30.0, gt=0)
    without_popularity: Literal["kept", "left_out"] = Field(
        default="kept",
        json_schema_extra={"absent_means": "kept"},
        description="items without interactions, if a popularity factor is used",
    )
    masked: Literal["own", "others", "nothing"] = Field(
        default="own",
        json_schema_extra={"absent_means": "own"},
        description="whose history is left out of a user's list: the user's, another's as in the official code, or none",
    )
    hits: Literal["item", "title"] = Field(
        default="item",
        json_schema_extra={"absent_means": "item"},
        description="which items count as the target: itself, or all of its title, as in BIGRec's evaluation of games",
    )

    @model_validator(mode="after")
    def _hits_fit(self) -> "TextRecipe":
        if self.hits == "title" and self.masked != "nothing":
            raise ValueError(
                f'hits = "title" ranks titles, but masked = "{self.masked}" leaves out items; set masked = "nothing"'
            )
        return self

    @model_validator(mode="after")
    def _engine_options_fit(self) -> "TextRecipe":
        taken = frozenset({"model", "tokenizer", "folder", "title_tokens", "seed"})
        check_engine(self.engine, self.engine_options, self.evaluation_precision, taken)
        return self


class TextSpec(ParadigmSpec):
    """Text-grounded (BIGRec): a language model generates the next item's title."""

    name = "text"
    implementation = "mmgrid.paradigms.text.paradigm:Text"
    recipe = TextRecipe
    from_backbone = True
    versions = {"evaluation": 2}  # 2: several generated titles of the catalogue rank by likelihood
    tiny_defaults = {
        "text_tokens": 16,
        "title_tokens": 16,
        "every_position": True,
        "epochs": {"pretrain": 4, "phase1": 2, "phase2": 2},
        "learning_rate": {"pretrain": 4e-3, "phase1": 1e-3, "phase2": 1e-3},
        "batch_size": 32,
        "precision": "float32",
    }
    official_defaults = {
        **OFFICIAL_TRAINING,
        "history_length": 30,
        "popularity_gamma": 0.25,
        "popularity_half_life_days": 30.0,
        "without_popularity": "left_out",
        "masked": "others",
    }
    official_users = 5000
    evaluation_needs = ("title_vectors", "embedder")
    layouts = (BIGREC,)

    def base_values(self, recipe: TextRecipe) -> dict[str, Any]:
        # `every_position` was added later: absent means false
        names = MODEL_VALUES if recipe.every_position else MODEL_VALUES[:-1]
        return {name: getattr(recipe, name) for name in names}

    def more_training_values(self, recipe: TextRecipe, phase: str, catalogue: str) -> dict[str, Any]:
        return recipe.averaged

    def training_work(self, values: Any, phase: str, counts: Counts, shape: Shape | None, recomputed: bool) -> Work:
        assert shape is not None
        return training_work(values, phase, counts, shape, recomputed)

    def evaluation_work(
        self, values: Any, users: float, counts: Counts, shape: Shape | None, embedder: Shape | None
    ) -> Work:
        assert shape is not None
        return evaluation_work(values, users, counts, shape, embedder or shape)

    def batch(self, values: Any, phase: str, counts: Counts, shape: Shape | None) -> MicroBatch:
        assert shape is not None
        return batch(values, phase, counts, shape)


SPEC = TextSpec()
