"""Trackers follow a training, and change nothing of it. TensorBoard is the one that these tests run."""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from torch import Tensor, nn

from kits.tiny_grid import fingerprints, planned
from mmgrid.grid.file.load import GridError
from mmgrid.testing.data import same_weights
from mmgrid.training import TrainingRecipe
from mmgrid.training import tracking as tracking_module
from mmgrid.training.fit import TrainingReport, fit
from mmgrid.training.tracking import PACKAGES, Tracking, check_trackers, tracked

RECIPE = TrainingRecipe(epochs=2, learning_rate=0.01, batch_size=8)


class Points:
    """Points on a line."""

    def __len__(self) -> int:
        return 32

    def draw(self, index: int, epoch: int) -> int:
        return index

    def collate(self, drawn: Sequence[Any]) -> dict[str, Tensor]:
        return {"inputs": torch.tensor([[float(one)] for one in drawn]) / 32}


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (model(batch["inputs"]) - 2 * batch["inputs"]).square().mean()


def _fit(folder: Path, tracking: Tracking | None) -> tuple[nn.Module, TrainingReport]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Linear(1, 1)
    return model, fit(model, Points(), _loss, RECIPE, folder, seed=3, tracking=tracking)


def _tracking(folder: Path, *report_to: str) -> Tracking:
    return Tracking(report_to, "demo", "checkpoint/sasrec/garden/all", folder, "checkpoint/sasrec/garden/all/12345678")


def _events(file: Path) -> Iterator[Any]:
    """The events of a file of TensorBoard: each is its length, a checksum, itself, and a checksum."""
    data = file.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_a_tracker_gets_the_losses_and_changes_nothing(tmp_path: Path) -> None:
    before = dict(os.environ)
    plain, report = _fit(tmp_path / "plain", None)
    model, same = _fit(tmp_path / "step", _tracking(tmp_path / "logs", "tensorboard"))
    assert same == report
    assert same_weights(model, plain)
    assert dict(os.environ) == before

    (file,) = (tmp_path / "logs").rglob("*tfevents*")
    assert file.parent == tmp_path / "logs" / "tensorboard" / "checkpoint/sasrec/garden/all/12345678"
    values = [(event.step, value) for event in _events(file) for value in event.summary.value]
    losses = [(step, value.simple_value) for step, value in values if value.tag == "train/loss"]
    assert losses == [(step, pytest.approx(loss, abs=1e-6)) for step, _, loss in report.losses]
    assert not list((tmp_path / "step").rglob("*tfevents*"))


def test_nothing_is_tracked_by_default(tmp_path: Path) -> None:
    _fit(tmp_path / "step", _tracking(tmp_path / "logs"))
    assert not (tmp_path / "logs").exists()


def test_a_users_own_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", "mine")
    with tracked(_tracking(tmp_path, "wandb", "mlflow")):
        assert os.environ["WANDB_DIR"] == "mine"
        assert os.environ["WANDB_PROJECT"] == os.environ["MLFLOW_EXPERIMENT_NAME"] == "demo"
        assert os.environ["MLFLOW_TRACKING_URI"].startswith("sqlite:///")
        assert str(tmp_path) in os.environ["TRACKIO_DIR"]
    assert os.environ["WANDB_DIR"] == "mine"
    assert "WANDB_PROJECT" not in os.environ
    assert (tmp_path / "mlflow").is_dir()


def test_tracking_is_no_part_of_a_fingerprint(tmp_path: Path) -> None:
    tracked_cells = planned(tmp_path, 'tracking.report_to=["tensorboard"]')
    assert fingerprints(tracked_cells) == fingerprints(planned(tmp_path))


def test_a_tracker_that_is_unknown_or_not_installed_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GridError, match=r"tracking\.report_to: 'tensorbord' is no tracker; known are tensorboard, "):
        planned(tmp_path, 'tracking.report_to=["tensorbord"]')
    monkeypatch.setattr(tracking_module, "find_spec", lambda name: None)
    with pytest.raises(GridError, match=r"tracking\.report_to: trackio is not installed: `pip install trackio`"):
        planned(tmp_path, 'tracking.report_to=["trackio"]')
    with pytest.raises(ValueError, match="`pip install tensorboardX`"):
        check_trackers(["tensorboard"])
    check_trackers([])


@pytest.mark.parametrize("name", PACKAGES)
def test_transformers_knows_the_trackers_by_these_names(name: str) -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert name in INTEGRATION_TO_CALLBACK
