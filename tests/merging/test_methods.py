"""Every registered method against its kit, and what is particular to each."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kits.merge_method import MergeMethodKit, MethodCase
from mmgrid.merging import METHODS, MergeError, get_method
from mmgrid.merging.methods import merge_method
from mmgrid.merging.methods.base import weighted_sum


def _weighted_average(tensors: list[Tensor], weights: list[float]) -> Tensor:
    shares = torch.tensor(weights, dtype=torch.float64)
    return torch.einsum("s,s...->...", shares / shares.sum(), torch.stack(tensors))


def _weighted_sum(tensors: list[Tensor], weights: list[float]) -> Tensor:
    return torch.einsum("s,s...->...", torch.tensor(weights, dtype=torch.float64), torch.stack(tensors))


REFERENCES = {"linear": _weighted_average, "task_arithmetic": _weighted_sum}
IDENTITY: dict[str, dict[str, object]] = {}


@pytest.mark.parametrize("name", list(METHODS))
class TestEveryMethod(MergeMethodKit):
    @pytest.fixture
    def case(self, name: str) -> MethodCase:
        return MethodCase(METHODS[name], REFERENCES[name], IDENTITY.get(name, {}))


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(MergeError, match=r"'task_aritmetic'; did you mean task_arithmetic\?; known: linear"):
        get_method("task_aritmetic")


def test_linear_is_the_equal_average_by_default() -> None:
    ones, threes = torch.ones(3), torch.full((3,), 3.0)
    assert METHODS["linear"]([ones, threes], [1.0, 1.0]).tolist() == [2.0] * 3
    assert METHODS["linear"]([ones, threes], [1.0, 1.0], normalise=False).tolist() == [4.0] * 3


def test_sums_have_the_bits_of_plain_float32_arithmetic() -> None:
    """Product and sum each rounded, as numpy does on every machine; not fused where a processor can."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1003, generator=generator) for _ in range(3)]
    one, other, third = (tensor.numpy() for tensor in tensors)
    weights = [np.float32(0.1), np.float32(1 / 3), np.float32(-0.7)]
    expected = (one * weights[0] + other * weights[1]) + third * weights[2]
    assert weighted_sum(tensors, [float(weight) for weight in weights]).equal(torch.from_numpy(expected))


def test_weights_that_add_up_to_zero_cannot_be_normalised() -> None:
    with pytest.raises(MergeError, match="add up to zero"):
        METHODS["linear"]([torch.ones(1), torch.ones(1)], [0.1, -0.1])
    assert METHODS["linear"]([torch.ones(1), torch.ones(1)], [1.0, -1.0], normalise=False).item() == 0


def test_options_come_from_the_signature() -> None:
    @merge_method(needs="element", returns="weights", base="none")
    def clipped(tensors: list[Tensor], weights: list[float], *, density: float = 0.5, keep: bool = True) -> Tensor:
        return tensors[0]

    assert clipped.name == "clipped"
    assert clipped.resolve({}) == {"density": 0.5, "keep": True}
    assert clipped.resolve({"density": "0.25", "keep": "false"}) == {"density": 0.25, "keep": False}
    with pytest.raises(MergeError, match=r"option density: Input should be a valid number"):
        clipped.resolve({"density": "much"})
    with pytest.raises(MergeError, match=r"did you mean density\?; known: density, keep"):
        clipped.resolve({"densty": 1})
