"""The recipe and the spec of `sasrec`."""

from typing import Any

from pydantic import Field, model_validator

from mmgrid.backbone.shape import Shape
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import MicroBatch
from mmgrid.paradigms.recipe import PhaseValues, Recipe
from mmgrid.paradigms.sasrec.work import batch, evaluation_work, training_work, weights
from mmgrid.paradigms.spec import ParadigmSpec
from mmgrid.paradigms.work import Work


class SasrecRecipe(Recipe):
    """All values of SASRec. The epochs were tuned on `target = "phase2"` (docs/LOG.md)."""

    hidden_size: int = Field(default=64, gt=0)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    intermediate_size: int = Field(default=256, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    epochs: PhaseValues = PhaseValues(pretrain=10, phase1=3, phase2=3, all=10)
    learning_rate: PhaseValues = PhaseValues(pretrain=1e-3, phase1=5e-4, phase2=5e-4, all=1e-3)
    batch_size: int = Field(default=128, gt=0)

    @model_validator(mode="after")
    def _heads_divide(self) -> "SasrecRecipe":
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _same_dropout(self) -> "SasrecRecipe":
        if self.processes > 1 and self.dropout:
            raise ValueError(
                f"processes = {self.processes} would draw other dropout masks than one; set processes = 1, or dropout = 0"
            )
        return self


class SasrecSpec(ParadigmSpec):
    """SASRec: item embeddings without text."""

    name = "sasrec"
    implementation = "mmgrid.paradigms.sasrec.paradigm:Sasrec"
    recipe = SasrecRecipe
    in_one_go = True
    model_type = "mmgrid_sasrec"
    auto_classes = "mmgrid.paradigms.sasrec.model"

    def training_work(self, values: Any, phase: str, counts: Counts, shape: Shape | None, recomputed: bool) -> Work:
        return training_work(values, phase, counts)

    def evaluation_work(
        self, values: Any, users: float, counts: Counts, shape: Shape | None, embedder: Shape | None
    ) -> Work:
        return evaluation_work(values, users, counts)

    def weights(self, values: Any, counts: Counts, shape: Shape | None) -> float:
        return weights(values, counts)

    def batch(self, values: Any, phase: str, counts: Counts, shape: Shape | None) -> MicroBatch:
        return batch(values, phase, counts)

    def layers(self, values: Any, tower: str, backbone: int | None) -> int | None:
        return values.layers


SPEC = SasrecSpec()
