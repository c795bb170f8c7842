"""The overlap of leading subspaces, on task vectors of known rank."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmgrid.merging.errors import MergeError
from mmgrid.merging.overlap import subspace_overlap

NAME = "model.layers.0.mlp.weight"


@pytest.fixture
def models(tmp_path):
    """The base, and models whose task vectors have the given right singular vectors (unit vectors e_i of width 40)."""
    random = np.random.default_rng(0)
    start = torch.from_numpy(random.normal(size=(48, 40)).astype(np.float32))
    left = np.linalg.qr(random.normal(size=(48, 10)))[0]

    def write(name: str, columns: list[int] | None) -> str:
        delta = np.zeros((48, 40))
        if columns is not None:
            delta[:, columns] = left[:, : len(columns)]
        weights = {NAME: start + torch.from_numpy(delta.astype(np.float32)), "embed.weight": start.clone()}
        save_file(weights, tmp_path / f"{name}.safetensors")
        return str(tmp_path / f"{name}.safetensors")

    return write


def test_overlaps_of_planted_subspaces(models) -> None:
    base = models("base", None)
    found = subspace_overlap(
        {"a": models("a", list(range(8))), "b": models("b", list(range(4, 12))), "c": models("c", list(range(20, 28)))},
        base,
        rank=8,
    )
    assert found["a", "b"] == found["b", "a"] == pytest.approx(0.5, abs=1e-3)
    assert found["a", "c"] == pytest.approx(0, abs=1e-3)


def test_a_model_that_did_not_move_has_no_overlap(models) -> None:
    base = models("base", None)
    found = subspace_overlap({"a": models("a", [1, 2]), "still": base}, base)
    assert np.isnan(found["a", "still"])
    with pytest.raises(MergeError, match="at least two models"):
        subspace_overlap({"a": base}, base)
