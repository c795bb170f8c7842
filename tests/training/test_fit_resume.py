"""Step checkpoints: a killed run resumes from the newest complete one, and none of them is ever unpickled.

That a resumed run ends at the same bits is in the kit that every paradigm passes (tests/kits/paradigm.py).
"""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kits.small import sasrec_recipe
from mmgrid.paradigms.sasrec.model import SasrecModel
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.testing.data import PHASE, make_histories, make_items, random_histories, same_weights
from mmgrid.testing.paradigm import Interruption
from mmgrid.training.fit import TrainingReport, fit, newest_step

ITEMS = make_items(40)


def _train(
    folder: Path, kill_at: int | None = None, seen: list[int] | None = None, precision: str = "float32"
) -> tuple[SasrecModel, TrainingReport]:
    recipe = sasrec_recipe(epochs={"pretrain": 2, "phase1": 1, "phase2": 1}, accumulation=2, precision=precision)
    paradigm, model = Sasrec(6), Sasrec.create(recipe, ITEMS, seed=0)
    examples = paradigm.examples(random_histories(30, 40), ITEMS, PHASE, seed=0)

    def progress(step: int, steps: int, loss: float | None) -> None:
        if seen is not None:
            seen.append(step)
        if step == kill_at:
            raise Interruption

    training = recipe.training("pretrain")
    return model, fit(model, examples, paradigm.loss, training, folder, seed=0, progress=progress, save_seconds=0)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[SasrecModel, TrainingReport]:
    return _train(tmp_path_factory.mktemp("straight"))


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "steps"
    with pytest.raises(Interruption):
        _train(folder, kill_at=6)
    return folder


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """The step folder of a run that was killed at step 6."""
    return Path(shutil.copytree(killed_once, tmp_path / "steps"))


def test_only_the_newest_step_is_kept(killed: Path) -> None:
    assert [path.name for path in killed.iterdir()] == ["checkpoint-5"]
    assert newest_step(killed) == str(killed / "checkpoint-5")
    weights = load_file(killed / "checkpoint-5" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


@pytest.mark.smoke
def test_a_run_may_be_killed_repeatedly(killed: Path, straight) -> None:
    """With dropout, accumulation, and steps in the middle of an epoch."""
    for kill_at in (7, 8, 11):
        with pytest.raises(Interruption):
            _train(killed, kill_at=kill_at)
    seen: list[int] = []
    model, report = _train(killed, seen=seen)
    assert seen[0] == 11
    assert same_weights(model, straight[0])
    assert report == straight[1]


@pytest.mark.parametrize("lost", ["trainer_state.json", "half of it", "optimizer.pt"])
def test_an_incomplete_step_checkpoint_is_skipped(killed: Path, straight, lost: str) -> None:
    """The Trainer writes trainer_state.json last: a kill before that leaves the folder without it."""
    broken = Path(shutil.copytree(killed / "checkpoint-5", killed / "checkpoint-7"))
    state = broken / "trainer_state.json"
    if lost == "half of it":
        state.write_text(state.read_text()[:200])
    else:
        state.unlink()
        (broken / lost).unlink(missing_ok=True)
    seen: list[int] = []
    model, report = _train(killed, seen=seen)
    assert seen[0] == 6, "from step 5"
    assert same_weights(model, straight[0])
    assert report == straight[1]


def test_without_a_complete_step_checkpoint_a_run_starts_over(killed: Path, straight) -> None:
    (killed / "checkpoint-5" / "trainer_state.json").unlink()
    seen: list[int] = []
    model, _ = _train(killed, seen=seen)
    assert seen[0] == 1
    assert same_weights(model, straight[0])


def test_a_loss_curve_with_few_points_continues_identically(tmp_path: Path) -> None:
    """402 steps are logged two by two; a step saved between two points would spoil the next one's mean."""

    def train(folder: Path, kill_at: int | None = None) -> TrainingReport:
        paradigm, model = Sasrec(6), Sasrec.create(recipe, ITEMS, seed=0)
        examples = paradigm.examples(make_histories([range(5)] * 67), ITEMS, PHASE, seed=0)

        def progress(step: int, steps: int, loss: float | None) -> None:
            if step == kill_at:
                raise Interruption

        training = recipe.training("pretrain")
        seconds = 1e9 if kill_at is None else 0
        return fit(model, examples, paradigm.loss, training, folder, seed=0, progress=progress, save_seconds=seconds)

    few = {"pretrain": 6, "phase1": 1, "phase2": 1}
    recipe = sasrec_recipe(epochs=few, batch_size=1, hidden_size=4, intermediate_size=4, layers=1)
    straight = train(tmp_path / "straight")
    assert [step for step, _, _ in straight.losses] == list(range(2, 403, 2))
    with pytest.raises(Interruption):
        train(tmp_path / "killed", kill_at=10)
    assert train(tmp_path / "killed") == straight


@pytest.mark.smoke
def test_bf16_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole, report = _train(tmp_path / "straight", precision="bf16")
    with pytest.raises(Interruption):
        _train(tmp_path / "killed", kill_at=4, precision="bf16")
    resumed, again = _train(tmp_path / "killed", precision="bf16")
    assert same_weights(whole, resumed)
    assert report == again


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sprung")


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_foreign_content_is_not_unpickled(killed: Path, tmp_path: Path, file: str) -> None:
    target, trap = killed / "checkpoint-5" / file, tmp_path / "trap"
    assert target.is_file()
    torch.save(_Trap(trap), target)
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        _train(killed)
    assert not trap.exists()


def test_the_trainers_arguments_are_never_read_back(killed: Path, tmp_path: Path, straight) -> None:
    torch.save(_Trap(tmp_path / "trap"), killed / "checkpoint-5" / "training_args.bin")
    model, _ = _train(killed)
    assert not (tmp_path / "trap").exists()
    assert same_weights(model, straight[0])
