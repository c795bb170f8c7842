"""Length and direction of the newest step between three checkpoints, against numpy."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mmgrid.studies.checkpoint_steps import step_facts

PHASES = ("pretrain", "phase1", "phase2")


def _saved(folder: Path, models: list[np.ndarray]) -> dict[str, Path]:
    """Phase → folder of a model with these weights, in two tensors."""
    found = {}
    for phase, weights in zip(PHASES, models, strict=False):
        found[phase] = folder / phase
        found[phase].mkdir()
        halves = {"a.weight": weights[:4].copy(), "b.weight": weights[4:].reshape(2, -1).copy()}
        save_file({name: half.astype(np.float32) for name, half in halves.items()}, found[phase] / "model.safetensors")
    return found


def test_ratio_and_cosine_are_those_of_the_two_steps(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    models = list(draw.normal(size=(3, 10)).astype(np.float32))
    first, second = models[1] - models[0], models[2] - models[1]
    found = step_facts(_saved(tmp_path, models), "sasrec")
    assert found["norm_ratio"] == pytest.approx(np.linalg.norm(second) / np.linalg.norm(first), rel=1e-5)
    cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
    assert found["cosine"] == pytest.approx(cosine, rel=1e-5)


def test_two_steps_in_one_direction_have_the_cosine_one(tmp_path: Path) -> None:
    start, step = np.arange(10.0), np.linspace(1, 2, 10)
    found = step_facts(_saved(tmp_path, [start, start + step, start + 1.5 * step]), "sasrec")
    assert found == {"norm_ratio": pytest.approx(0.5, rel=1e-6), "cosine": pytest.approx(1, rel=1e-6)}


def test_without_two_steps_nothing_is_known(tmp_path: Path) -> None:
    nothing = {"norm_ratio": None, "cosine": None}
    models = [np.arange(10.0), np.arange(10.0), np.zeros(10)]
    saved = _saved(tmp_path, models)  # the first step is zero
    assert step_facts(saved, "sasrec") == nothing
    assert step_facts({phase: saved[phase] for phase in PHASES[1:]}, "sasrec") == nothing
