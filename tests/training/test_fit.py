"""`fit`: schedules follow their formulas, examples come in order, invariants hold, errors are clear."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import TrainerControl, TrainerState

from kits.small import sasrec_recipe
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.testing.data import PHASE, make_histories, make_items, same_weights
from mmgrid.training import TrainingRecipe
from mmgrid.training import fit as fit_module
from mmgrid.training.fit import TrainingError, fit
from mmgrid.training.schedule import EpochSequence

ITEMS = make_items(40)


def _recipe(**values) -> TrainingRecipe:
    return TrainingRecipe(**{"epochs": 2, "learning_rate": 0.01, "batch_size": 8, "schedule": "constant", **values})


class Points:
    """Points on a noisy line, which a linear model can learn."""

    def __init__(self, n: int = 48):
        draw = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(n, 3, generator=draw)
        self.outputs = self.inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + torch.randn(n, 1, generator=draw) / 10

    def __len__(self) -> int:
        return len(self.inputs)

    def draw(self, index: int, epoch: int) -> int:
        return index

    def collate(self, drawn: Sequence[Any]) -> dict[str, Tensor]:
        return {"rows": torch.tensor(drawn), "inputs": self.inputs[list(drawn)], "outputs": self.outputs[list(drawn)]}


def _line() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(3, 1)


def _squared(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (model(batch["inputs"]) - batch["outputs"]).square().mean()


def _fit(folder: Path, recipe: TrainingRecipe, model: nn.Module | None = None, **options):
    model = model or _line()
    return model, fit(model, Points(), options.pop("loss", _squared), recipe, folder, seed=3, **options)


class _One(nn.Module):
    """A single weight; a loss equal to it has gradient 1, so that AdamW's step is the learning rate itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


def _rates(folder: Path, recipe: TrainingRecipe) -> list[float]:
    """The learning rate of each step, derived from the change of the weight."""
    seen: list[float] = []

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        seen.append(model.weight.item())
        return model.weight * 1.0

    model = _One()
    fit(model, Points(), loss, recipe, folder, seed=0)
    places = torch.tensor([*seen, model.weight.item()], dtype=torch.float64)
    return (places[:-1] - places[1:]).tolist()


class TestSchedules:
    """48 points, batches of 8, 2 epochs: 12 steps, the first of a warm-up at rate 0."""

    def test_constant(self, tmp_path: Path) -> None:
        assert _rates(tmp_path, _recipe()) == pytest.approx([0.01] * 12, rel=1e-3)

    def test_constant_after_a_warm_up(self, tmp_path: Path) -> None:
        expected = [0.01 * min(step / 3, 1) for step in range(12)]
        assert _rates(tmp_path, _recipe(warmup_ratio=0.25)) == pytest.approx(expected, rel=1e-3, abs=1e-7)

    def test_cosine(self, tmp_path: Path) -> None:
        expected = [0.005 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
        assert _rates(tmp_path, _recipe(schedule="cosine")) == pytest.approx(expected, rel=2e-3, abs=1e-6)

    def test_cosine_after_a_warm_up_in_steps(self, tmp_path: Path) -> None:
        recipe = _recipe(schedule="cosine", warmup_steps=2, warmup_ratio=0.9)
        expected = [
            0.01 * (step / 2 if step < 2 else (1 + math.cos(math.pi * (step - 2) / 10)) / 2) for step in range(12)
        ]
        assert _rates(tmp_path, recipe) == pytest.approx(expected, rel=2e-3, abs=1e-6)


class TestExamples:
    def _seen(self, folder: Path, recipe: TrainingRecipe) -> list[int]:
        rows: list[int] = []

        def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            rows.extend(batch["rows"].tolist())
            return _squared(model, batch)

        _fit(folder, recipe, loss=loss)
        return rows

    @pytest.mark.parametrize("accumulation", [1, 4])
    def test_the_order_is_that_of_the_epoch_sequence(self, tmp_path: Path, accumulation: int) -> None:
        sequence = EpochSequence(Points(), 2.25, seed=3)
        expected = [sequence[position] for position in range(len(sequence))]
        assert self._seen(tmp_path, _recipe(epochs=2.25, accumulation=accumulation)) == expected

    def test_the_report_has_steps_examples_and_losses(self, tmp_path: Path) -> None:
        progress: list[tuple[int, int, float | None]] = []
        _, report = _fit(tmp_path, _recipe(), progress=lambda *told: progress.append(told))
        assert (report.steps, report.examples) == (12, 48)
        assert [(step, epoch) for step, epoch, _ in report.losses] == [(s, pytest.approx(s / 6)) for s in range(1, 13)]
        assert report.losses[-1][2] < report.losses[0][2]
        assert progress[:12] == [(step, 12, pytest.approx(loss)) for step, _, loss in report.losses]

    def test_a_long_curve_has_about_200_points(self, tmp_path: Path) -> None:
        _, report = _fit(tmp_path, _recipe(epochs=9, batch_size=1))
        assert report.steps == 432
        assert [step for step, _, _ in report.losses] == list(range(2, 433, 2))

    def test_nothing_is_printed(self, tmp_path: Path, capfd) -> None:
        _fit(tmp_path, _recipe(), save_seconds=0)
        assert capfd.readouterr() == ("", "")


class TestStepCheckpoints:
    def test_a_costly_one_delays_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [0.0]
        monkeypatch.setattr(fit_module.time, "monotonic", lambda: clock[0])
        callback = fit_module._StepCallback(None, every=1, save_seconds=60)
        saved = []
        for step in range(1, 1001):
            clock[0] += 10
            control = TrainerControl()
            callback.on_step_end(None, TrainerState(global_step=step, max_steps=2000), control)
            if control.should_save:
                saved.append(step)
                clock[0] += 4  # what saving takes
                callback.on_save(None, None, control)
        gaps = [10 * (later - former) for former, later in itertools.pairwise(saved)]
        assert saved[0] == 6, "the first after a minute"
        assert set(gaps) == {200}, "4 seconds are 2 % of 200"


class TestInvariants:
    def test_saving_changes_no_weight(self, tmp_path: Path) -> None:
        recipe = _recipe(schedule="cosine")
        (never, first), (always, second) = (
            _fit(tmp_path / str(seconds), recipe, save_seconds=seconds) for seconds in (1e9, 0)
        )
        assert list((tmp_path / "0").glob("checkpoint-*"))
        assert not list((tmp_path / "1000000000.0").glob("checkpoint-*"))
        assert same_weights(never, always)
        assert first == second

    def test_accumulating_equals_one_large_batch(self, tmp_path: Path) -> None:
        models = [_fit(tmp_path / str(parts), _recipe(accumulation=parts))[0] for parts in (1, 2, 8)]
        for model in models[1:]:
            torch.testing.assert_close(model.state_dict(), models[0].state_dict(), rtol=1e-5, atol=1e-6)

    def test_accumulating_a_recommenders_batch(self, tmp_path: Path) -> None:
        """All windows have the same number of targets, so the mean of the parts' means is the overall mean."""
        histories = make_histories([[(user * 7 + step) % 40 for step in range(6)] for user in range(24)])
        states = []
        for parts in (1, 4):
            recipe = sasrec_recipe(dropout=0.0, accumulation=parts, epochs={"pretrain": 2, "phase1": 1, "phase2": 1})
            model, paradigm = Sasrec.create(recipe, ITEMS, seed=0), Sasrec(6)
            examples = paradigm.examples(histories, ITEMS, PHASE, seed=0)
            fit(model, examples, paradigm.loss, recipe.training("pretrain"), tmp_path / str(parts), seed=0)
            states.append(model.state_dict())
        torch.testing.assert_close(states[1], states[0], rtol=1e-3, atol=1e-5)

    def test_the_state_of_the_global_generator_does_not_matter(self, tmp_path: Path) -> None:
        histories = make_histories([[(user * 7 + step) % 40 for step in range(6)] for user in range(24)])
        recipe = sasrec_recipe(dropout=0.5, epochs={"pretrain": 1, "phase1": 1, "phase2": 1})
        models = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            paradigm, model = Sasrec(6), Sasrec.create(recipe, ITEMS, seed=0)
            examples = paradigm.examples(histories, ITEMS, PHASE, seed=0)
            fit(model, examples, paradigm.loss, recipe.training("pretrain"), tmp_path / str(seed), seed=0)
            models.append(model)
        assert same_weights(*models)


class TestPrecision:
    def test_bf16_computes_in_bfloat16_and_keeps_float32(self, tmp_path: Path) -> None:
        kinds: list[torch.dtype] = []

        def watched() -> nn.Module:
            line = _line()
            line.register_forward_hook(lambda _module, _inputs, output: kinds.append(output.dtype))
            return nn.Sequential(line)

        wide, exact = _fit(tmp_path / "float32", _recipe(), watched())
        assert set(kinds) == {torch.float32}
        kinds.clear()
        narrow, rounded = _fit(tmp_path / "bf16", _recipe(precision="bf16"), watched())
        assert set(kinds) == {torch.bfloat16}
        assert all(weight.dtype == torch.float32 for weight in narrow.parameters())
        assert not same_weights(wide, narrow)
        torch.testing.assert_close(narrow.state_dict(), wide.state_dict(), rtol=0.1, atol=0.01)
        assert rounded.losses[-1][2] == pytest.approx(exact.losses[-1][2], rel=0.05)


class TestErrors:
    def test_no_examples_are_an_error(self, tmp_path: Path) -> None:
        class Nothing(Points):
            def __len__(self) -> int:
                return 0

        with pytest.raises(TrainingError, match="no training examples"):
            fit(_line(), Nothing(), _squared, _recipe(), tmp_path, seed=0)

    def test_a_nan_loss_is_an_error(self, tmp_path: Path) -> None:
        def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            return _squared(model, batch) * (float("nan") if 0 in batch["rows"] else 1.0)

        with pytest.raises(TrainingError, match=r"the loss is nan at step \d; lower the learning rate"):
            _fit(tmp_path, _recipe(), loss=loss)

    def test_non_finite_weights_after_the_last_step_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="weights are not finite"):
            _fit(tmp_path, _recipe(learning_rate=1e39, epochs=1 / 6))

    def test_an_indivisible_batch_is_an_error(self, tmp_path: Path) -> None:
        """Rounding it down would train by a recipe other than the recorded one."""
        with pytest.raises(TrainingError, match=r"batch_size 8 cannot be divided into 3 micro-batches"):
            _fit(tmp_path, _recipe(accumulation=3))


class TestWarnings:
    @pytest.mark.parametrize(
        ("zeros", "words"), [(12, "in each of its 12 steps"), (6, "in 50% of its 12 steps"), (5, "")]
    )
    def test_steps_without_a_loss_are_told_of(
        self, zeros: int, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        steps = itertools.count()

        def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            return _squared(model, batch) * (next(steps) >= zeros)

        _fit(tmp_path, _recipe(), loss=loss)
        (found,) = [record.getMessage() for record in caplog.records if "loss was 0" in record.getMessage()] or [""]
        assert words in found if words else not found
