"""Two processes train the same model as one: one global batch, one pool of negatives (torchrun, gloo)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kits.small import child_environment

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """The folders of a run with one process and of one with two; if a run fails, its last output is shown."""
    root = tmp_path_factory.mktemp("processes")
    launchers = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}
    children = []
    for name, launcher in launchers.items():
        (root / name / "semb" / "steps" / "checkpoint-1").mkdir(parents=True)  # as a kill leaves one behind
        command = [sys.executable, *launcher, str(SCRIPT), str(root / name)]
        log = (root / f"{name}.log").open("w")
        children.append(subprocess.Popen(command, stdout=log, stderr=log, env=child_environment()))
        log.close()
    for name, child in zip(launchers, children, strict=True):
        assert child.wait() == 0, (root / f"{name}.log").read_text()[-3000:]
    return [root / name for name in launchers]


@pytest.fixture(scope="module")
def one(runs: list[Path]) -> Path:
    return runs[0]


@pytest.fixture(scope="module")
def two(runs: list[Path]) -> Path:
    return runs[1]


def _facts(folder: Path, process: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"facts_{process}.json").read_text())


def test_two_processes_took_part(one: Path, two: Path) -> None:
    assert _facts(one)["processes"] == 1
    assert [_facts(two, process)["processes"] for process in (0, 1)] == [2, 2]
    for name in ("semb", "sasrec", "semid"):
        assert _facts(one)[name]["wrapped"] == [False]
        assert _facts(two)[name]["wrapped"] == [True], "in torch's DistributedDataParallel"


def test_the_pool_of_negatives_is_that_of_the_global_batch(one: Path, two: Path) -> None:
    alone, together = _facts(one)["uniform"], _facts(two)["uniform"]
    assert together["negatives"] == alone["negatives"] // 2, "each draws its share"
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    torch.testing.assert_close(
        load_file(two / "gradients_uniform.safetensors"),
        load_file(one / "gradients_uniform.safetensors"),
        rtol=1e-3,
        atol=1e-5,
    )


def test_processes_may_have_different_numbers_of_negatives(one: Path, two: Path) -> None:
    """With in-batch negatives, their number is that of the distinct items."""
    sizes = [_facts(two, process)["batch"]["negatives"] for process in (0, 1)]
    assert sizes[0] != sizes[1]
    assert _facts(two)["batch"]["loss"] == pytest.approx(_facts(one)["batch"]["loss"], rel=0.05)


@pytest.mark.parametrize("name", ["semb", "sasrec", "semid"])
def test_a_step_has_the_batch_size_of_the_recipe_whatever_the_number_of_processes(
    one: Path, two: Path, name: str
) -> None:
    alone, together = _facts(one)[name], _facts(two)[name]
    assert alone["sizes"] == [8] * alone["steps"]
    assert together["sizes"] == [4] * together["steps"]
    assert together["steps"] == alone["steps"] > 3


@pytest.mark.parametrize("name", ["semb", "sasrec", "semid"])
def test_two_processes_train_the_same_weights_as_one(one: Path, two: Path, name: str) -> None:
    alone, together = (load_file(folder / f"{name}.safetensors") for folder in (one, two))
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    losses = [[point[2] for point in _facts(folder)[name]["losses"]] for folder in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_both_processes_write_their_part_of_a_step_checkpoint(two: Path) -> None:
    names = {path.name for path in two.glob("*/steps/checkpoint-*/rng_state_*")}
    assert names == {"rng_state_0.pth", "rng_state_1.pth"}
