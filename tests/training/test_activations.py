"""What autograd keeps is counted in bytes, on any device."""

import pytest
import torch
from torch import nn

from mmgrid.training.activations import keeping


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_input_of_a_layer_and_its_output_are_kept_and_its_weights_are_no_activations(device: str) -> None:
    layer = nn.Sequential(nn.Linear(6, 10, device=device), nn.Sigmoid())
    with keeping(layer.parameters()) as kept:
        outputs = layer(torch.zeros(7, 6, device=device))
    assert kept.bytes == 7 * 6 * 4 + 7 * 10 * 4
    with keeping() as kept:
        outputs = layer(torch.zeros(7, 6, device=device))
    assert kept.bytes == 7 * 6 * 4 + 7 * 10 * 4, "the backward pass to weights alone reads no weight"
    assert outputs.requires_grad


def test_views_of_one_storage_count_once() -> None:
    whole = torch.zeros(8, requires_grad=True)
    with keeping() as kept:
        first, second = (whole * 1).split(4)
        (first * second + first.exp() * second).sum()
    assert kept.bytes == 8 * 4 + 4 * 4, "the copy, and the exponential"
