"""Weights that are pulled towards their base."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kits.small import make_backbone, make_tokenizer, semb_recipe
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.testing.data import PHASE, make_items, random_histories, same_weights
from mmgrid.testing.paradigm import Interruption
from mmgrid.training.base_decay import BaseDecay
from mmgrid.training.fit import TrainingError, fit

ITEMS = make_items(40)


def _model() -> Any:
    model = nn.ModuleDict({"rows": nn.Embedding(5, 2), "linear": nn.Linear(2, 2), "own": nn.Linear(2, 1)})
    for weight in model.parameters():
        nn.init.constant_(weight, 1.0)
    return model


def test_every_step_halves_the_distance_to_what_the_base_has(tmp_path: Path) -> None:
    """η κ = 0.5. The base lacks two of the five rows, and one layer."""
    stored = {"rows.weight": torch.zeros(3, 2), "linear.weight": torch.full((2, 2), 2.0), "linear.bias": torch.ones(2)}
    save_file(stored, tmp_path / "model.safetensors")
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(BaseDecay(model, tmp_path, rate=5.0).after_step)
    for left in (0.5, 0.25):
        optimizer.step()  # without gradients it moves nothing itself
        assert torch.equal(model["rows"].weight[:3], torch.full((3, 2), left))
        assert torch.allclose(model["linear"].weight, torch.full((2, 2), 2 - left))
    assert torch.equal(model["rows"].weight[3:], torch.ones(2, 2))
    assert all(bool((weight == 1).all()) for weight in (*model["own"].parameters(), model["linear"].bias))


def test_a_rate_beyond_one_step_stops_at_the_base(tmp_path: Path) -> None:
    save_file({"own.weight": torch.zeros(1, 2)}, tmp_path / "model.safetensors")
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    BaseDecay(model, tmp_path, rate=1e6).after_step(optimizer)
    assert torch.equal(model["own"].weight, torch.zeros(1, 2))


def test_a_base_of_another_model_is_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"{tmp_path} holds none of the weights that are trained"):
        BaseDecay(_model(), tmp_path, rate=1.0)


def test_weights_that_round_its_steps_away_are_refused() -> None:
    with pytest.raises(ValueError, match="less than bfloat16 can tell"):
        semb_recipe(base_decay=1.0, precision="bf16-weights")


class TestTraining:
    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        (tmp_path / "base").mkdir()
        paradigm, model = self.make()
        paradigm.save(model, tmp_path / "base")
        return tmp_path / "base"

    def make(self) -> tuple[Semb, Any]:
        tokenizer = make_tokenizer(ITEMS)
        return Semb.create(semb_recipe(), make_backbone(tokenizer), tokenizer, seed=0)

    def train(self, folder: Path, base: Path | None, rate: float, kill_at: int | None = None) -> nn.Module:
        paradigm, model = self.make()
        training = semb_recipe(epochs={"pretrain": 2, "phase1": 1, "phase2": 1}, base_decay=rate).training("pretrain")
        examples = paradigm.examples(random_histories(30, 40), ITEMS, PHASE, seed=0)

        def progress(step: int, steps: int, loss: float | None) -> None:
            if step == kill_at:
                raise Interruption

        loss: Any = paradigm.loss
        fit(model, examples, loss, training, folder, seed=0, base=base, progress=progress, save_seconds=0)
        return model

    def distance(self, model: nn.Module) -> float:
        start = self.make()[1].state_dict()
        return sum(float((weight - start[name]).square().sum()) for name, weight in model.state_dict().items()) ** 0.5

    def test_the_larger_the_rate_the_nearer_the_model(self, base: Path, tmp_path: Path) -> None:
        found = [self.distance(self.train(tmp_path / str(rate), base, rate)) for rate in (0.0, 2000.0, 8000.0)]
        assert found[0] > 1.5 * found[1] > 3 * found[2] > 0

    def test_a_resumed_training_gives_the_same_bits(self, base: Path, tmp_path: Path) -> None:
        straight = self.train(tmp_path / "straight", base, 1000.0)
        with pytest.raises(Interruption):
            self.train(tmp_path / "killed", base, 1000.0, kill_at=3)
        assert same_weights(straight, self.train(tmp_path / "killed", base, 1000.0))

    def test_without_a_base_it_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="base_decay pulls the weights towards a base"):
            self.train(tmp_path / "steps", None, 1.0)
