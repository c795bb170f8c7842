"""The recipe and the spec of `semb`."""

from typing import Any

from pydantic import Field

from mmgrid.backbone.shape import Shape
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import MicroBatch
from mmgrid.paradigms.recipe import PhaseValues, Recipe, WhichTargets
from mmgrid.paradigms.semb.layouts import HLLM
from mmgrid.paradigms.semb.work import USER_LAYERS, batch, evaluation_work, training_work, weights
from mmgrid.paradigms.spec import ParadigmSpec
from mmgrid.paradigms.work import Work
from mmgrid.training.recipe import Precision, Schedule, TrainingRecipe

MODEL_VALUES = ("prompt", "text_tokens", "title_tokens", "history_length")  # stored in the model's config


class SembRecipe(Recipe):
    """All values of semb. The defaults are the paper's, for a pretrained backbone."""

    prompt: str = "Compress the following sentence into embedding:"
    text_tokens: int = Field(default=64, ge=1, description="tokens of title and description, without the prompt")
    prompt_counts: bool = Field(
        default=False,
        json_schema_extra={"absent_means": False},
        description="whether the prompt's tokens are among the text_tokens, as in the official code",
    )
    title_tokens: int = Field(default=48, ge=1, description="maximum tokens of the title")
    negatives: int = Field(default=512, ge=1, description="uniform negatives, pooled over the batch")
    batch_negatives: bool = Field(default=False, description="use the batch's items as negatives, too")
    epochs: PhaseValues = PhaseValues(pretrain=3, phase1=2, phase2=2)
    learning_rate: PhaseValues = PhaseValues(pretrain=1e-4, phase1=5e-5, phase2=5e-5)
    batch_size: int = Field(default=16, gt=0)
    weight_decay: float = Field(default=0.001, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    schedule: Schedule = "cosine"
    precision: Precision = "bf16"
    rows_at_once: int | None = Field(
        default=None,
        ge=1,
        json_schema_extra={"absent_means": None},
        description="packed rows of items whose activations training holds at once; fewer take longer and less memory",
    )
    shared_negatives: bool = Field(
        default=False,
        json_schema_extra={"absent_means": False},
        description="whether the micro-batches of a step share one pool of negatives, as without accumulation",
    )
    targets: WhichTargets = Field(
        default="phase",
        json_schema_extra={"absent_means": "phase"},
        description="the phase's interactions, or the whole histories of users who are active in it",
    )

    @property
    def parts(self) -> int:
        """In how many parts the model computes a batch whose negatives are shared; 1 where the Trainer divides it."""
        return self.accumulation if self.shared_negatives else 1

    def training(self, phase: str) -> TrainingRecipe:
        return super().training(phase).model_copy(update={"accumulation": self.accumulation // self.parts})


class SembSpec(ParadigmSpec):
    """Semantic embeddings (HLLM): one tower encodes items from their texts, another encodes users from their items."""

    name = "semb"
    implementation = "mmgrid.paradigms.semb.paradigm:Semb"
    recipe = SembRecipe
    from_backbone = True
    # checkpoint 2: a user's own items are no batch negatives.
    # evaluation 2: users are encoded in order of history length, which changes the last digits of scores.
    versions = {"checkpoint": 2, "evaluation": 2}
    tiny_defaults = {
        "text_tokens": 32,
        "title_tokens": 32,
        "negatives": 64,
        "batch_negatives": True,
        "epochs": {"pretrain": 3, "phase1": 2, "phase2": 2},
        "least_steps": {"pretrain": 2500, "phase1": 250, "phase2": 250},
        "learning_rate": {"pretrain": 3e-4, "phase1": 1.5e-4, "phase2": 1.5e-4},
        "batch_size": 16,
        "precision": "float32",
    }
    official_defaults = {
        "history_length": 25,
        "targets": "history",
        "gradient_clipping": 0.0,
        "prompt_counts": True,
    }
    towers = {"item": ("item_tower.*", "item_token"), "user": ("user_tower.*",)}
    model_type = "mmgrid_semb"
    auto_classes = "mmgrid.paradigms.semb.model"
    layouts = (HLLM,)

    def base_values(self, recipe: SembRecipe) -> dict[str, Any]:
        counted = {"prompt_counts": True} if recipe.prompt_counts else {}
        return {name: getattr(recipe, name) for name in MODEL_VALUES} | counted

    def draws_base(self, recipe: SembRecipe) -> bool:
        return True

    def training_work(self, values: Any, phase: str, counts: Counts, shape: Shape | None, recomputed: bool) -> Work:
        assert shape is not None
        return training_work(values, phase, counts, shape, recomputed)

    def evaluation_work(
        self, values: Any, users: float, counts: Counts, shape: Shape | None, embedder: Shape | None
    ) -> Work:
        assert shape is not None
        return evaluation_work(values, users, counts, shape)

    def weights(self, values: Any, counts: Counts, shape: Shape | None) -> float:
        assert shape is not None
        return weights(shape)

    def batch(self, values: Any, phase: str, counts: Counts, shape: Shape | None) -> MicroBatch:
        assert shape is not None
        return batch(values, phase, counts, shape)

    def layers(self, values: Any, tower: str, backbone: int | None) -> int | None:
        if tower == "user":
            return USER_LAYERS
        return backbone if tower or backbone is None else max(backbone, USER_LAYERS)


SPEC = SembSpec()
