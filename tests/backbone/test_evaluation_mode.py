"""Evaluation mode in the middle of a training."""

import pytest
from torch import nn

from mmgrid.backbone.evaluation_mode import evaluating


def _fail_within(model: nn.Module) -> None:
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError


def test_each_module_returns_to_its_own_mode_even_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    model[1].eval()
    with pytest.raises(KeyError):
        _fail_within(model)
    assert [module.training for module in model.modules()] == [True, True, False, False]
