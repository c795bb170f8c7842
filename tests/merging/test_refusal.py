"""What methods refuse whatever the tensors are."""

import pytest
import torch

from mmgrid.merging import METHODS, MergeError, merge_state_dicts
from mmgrid.merging.methods.refusal import refusal


def _refused_by_the_merge(name: str, weights: list[float]) -> str | None:
    names = ["a", "b", "c"][: len(weights)]
    draws = torch.Generator().manual_seed(0)
    models = {one: {"w": torch.randn(4, 4, generator=draws)} for one in ["base", *names]}
    base = None if METHODS[name].base == "none" else models["base"]
    given = dict(zip(names, weights, strict=True))
    try:
        merge_state_dicts(name, {one: models[one] for one in names}, base=base, weights=given)
    except MergeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", METHODS)
def test_what_is_refused_beforehand_is_refused_by_the_merge(name: str) -> None:
    method = METHODS[name]
    if method.takes_passes or method.statistics:
        pytest.skip("its numbers are checked when it runs")
    for weights in ([1.0], [1.0, 1.0], [0.5, 1.0, 2.0], [1.0, -1.0], [0.0, 0.0, 0.0]):
        assert refusal(method, weights, method.resolve({})) == _refused_by_the_merge(name, weights)
