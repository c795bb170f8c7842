"""Two processes train the same model as one: one batch, one pool of negatives, one mean (gloo).

Measured of float32 trainings of 7 steps: weights within 1e-3 of their size or 1e-4, losses within 1e-4.
"""

import os
from functools import partial
from pathlib import Path

import pytest
import torch

from kits.failing_work import OddError, die
from kits.shared_training import TOGETHER, Trained, start, train, train_together
from kits.small import sasrec_recipe
from mmgrid.training.errors import TrainingError
from mmgrid.training.fit import fit
from mmgrid.training.processes import in_processes, sendable
from mmgrid.training.schedule import EpochSequence
from mmgrid.training.share import Share

pytestmark = pytest.mark.slow

NAMES = [name for name, _ in TOGETHER]
MICRO_BATCHES = 7  # 25 examples, four at a time


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Trained]:
    return {name: train(name, folder / "alone" / name) for name in NAMES}


@pytest.fixture(scope="module")
def together(folder: Path, alone: dict[str, Trained]) -> list[dict[str, Trained]]:
    train("semid", folder / "begun alone", stop_after=5)
    (folder / "semb" / "checkpoint-1").mkdir(parents=True)  # as a kill leaves one behind
    reported: list[tuple[int, int, float | None]] = []
    found = in_processes(partial(train_together, folder), 2, lambda *progress: reported.append(progress))
    assert reported == [(1, 2, 0.5)], "the first process reports, and it alone"
    return found


def _same(one: Trained, other: Trained) -> None:
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-3, atol=1e-4)
    assert one.losses == pytest.approx(other.losses, rel=1e-4)


@pytest.mark.parametrize(("name", "sharded"), TOGETHER)
def test_two_processes_train_as_one(alone, together, name: str, sharded: bool) -> None:
    assert len(together) == 2
    wrapper = "FSDPModule" if sharded else "DistributedDataParallel"
    for each in together:
        assert wrapper in each[name].kinds
        assert each[name].held == (0.5 if sharded else 1.0)
    assert not alone[name].kinds & {"FSDPModule", "DistributedDataParallel"}
    _same(together[0][name], alone[name])


@pytest.mark.parametrize("name", NAMES[:2])
def test_all_targets_have_the_negatives_of_the_whole_batch(alone, together, name: str) -> None:
    """Each process encodes its share of them."""
    one, other = (each[name].sizes for each in together)
    assert [total for total, _ in one] == [total for total, _ in other] == [total for total, _ in alone[name].sizes]
    assert [mine + others for (_, mine), (_, others) in zip(one, other, strict=True)] == [total for total, _ in one]
    assert all(abs(mine - others) <= 1 for (_, mine), (_, others) in zip(one, other, strict=True))


def test_a_training_goes_on_in_another_number_of_processes(folder: Path, alone, together) -> None:
    gone_on = {
        "semid": together[0]["gone on"],
        "semb": train("semb", folder / "begun together"),
        "semid again": train("semid", folder / "begun sharded"),
    }
    for name, found in gone_on.items():
        whole = alone[name.removesuffix(" again")]
        assert 0 < len(found.sizes) < len(whole.sizes), "from the step checkpoint on"
        _same(found, whole)


def test_a_step_has_the_mean_of_its_micro_batches(alone) -> None:
    """Also for a model whose own loss would be a sum over them, by Transformers' convention."""
    _, paradigm, model, examples = start("text")
    sequence = EpochSequence(examples, 1, seed=0)
    micro_batches = [[sequence[place] for place in range(first, first + 4)] for first in (0, 4)]
    losses = [paradigm.loss(model, examples.collate(drawn)).item() for drawn in micro_batches]
    assert alone["text"].losses[0] == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_a_share_is_a_part_of_the_batch_and_nothing_is_left_over() -> None:
    for n, of in ((8, 3), (2, 4), (0, 2), (5, 1)):
        parts = [list(range(n))[Share(index, of).part(n)] for index in range(of)]
        assert [one for part in parts for one in part] == list(range(n))
        assert [len(part) for part in parts] == Share(0, of).sizes(n)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_that_is_killed_ends_the_training_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"process 2 of the 2 of this training ended with code -9 \(was it out of"):
        in_processes(partial(die, tmp_path), 2)
    with pytest.raises(ProcessLookupError):  # the other one is gone as well
        os.kill(int((tmp_path / "waiting").read_text()), 0)


def test_an_error_that_cannot_be_sent_is_told() -> None:
    """Of a library, say, whose errors are made from other arguments than their message."""
    told = sendable(OddError(1, 2))
    assert isinstance(told, TrainingError)
    assert str(told) == "1 is not 2"
    assert sendable(error := ValueError("as it is")) is error


def test_dropout_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its masks would be others than those of one process."""
    monkeypatch.setattr("mmgrid.training.fit.own_share", lambda: Share(0, 2))
    for name, set_dropout in (
        ("sasrec", lambda model: setattr(model.dropout, "p", 0.1)),
        ("semb", lambda model: setattr(model.user_tower.config, "attention_dropout", 0.1)),
    ):
        recipe, paradigm, model, examples = start(name)
        set_dropout(model)
        with pytest.raises(TrainingError, match=r"dropout \(.* = 0.1\); set it to 0, or processes = 1"):
            fit(model, examples, paradigm.loss, recipe.training("pretrain"), tmp_path, seed=0)
    with pytest.raises(ValueError, match=r"set processes = 1, or dropout = 0"):
        sasrec_recipe(processes=2)
    with pytest.raises(ValueError, match=r"set processes, or remove it"):
        sasrec_recipe(sharding="full")
