"""Balanced assignment: marginals of the plan, even use of codes, and stability for small ε."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.semantic_ids import sinkhorn
from mmgrid.semantic_ids.sinkhorn import balanced_assignment, log_transport_plan


def _distances(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_rows_sum_to_one_and_columns_to_their_share(n: int, codes: int, seed: int) -> None:
    plan = log_transport_plan(_distances(n, codes, seed=seed), epsilon=0.5, iterations=300).exp()
    torch.testing.assert_close(plan.sum(0), torch.full((codes,), n / codes, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(1), torch.ones(n, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_the_plan_equals_plain_scaling_if_that_does_not_overflow() -> None:
    distances = _distances(6, 4)
    cost = 2 * (distances - distances.min()) / (distances.max() - distances.min())
    plain = (-cost / 0.3).exp()
    for _ in range(7):
        plain = plain / plain.sum(1, keepdim=True)
        plain = plain / plain.sum(0, keepdim=True) * 6 / 4
    torch.testing.assert_close(log_transport_plan(distances, 0.3, 7).exp(), plain)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_tiny_epsilon_gives_finite_plans_at_any_scale(size: float) -> None:
    plan = log_transport_plan((_distances(64, 16) * size).float(), epsilon=0.003, iterations=50)
    assert not plan.isnan().any()
    assert torch.equal(plan.argmax(1), log_transport_plan(_distances(64, 16).float(), 0.003, 50).argmax(1))


def test_codes_are_used_about_equally_often() -> None:
    """All vectors are nearest to code 0: plain assignment uses that code only, balanced assignment uses all codes."""
    distances = _distances(200, 8) + 2 * (torch.arange(8) > 0)
    assert set(distances.argmin(1).tolist()) == {0}
    counts = np.bincount(balanced_assignment(distances, 0.003, 200).numpy(), minlength=8)
    assert counts.min() >= 20
    assert counts.max() <= 30


def test_batched_problems_equal_single_ones() -> None:
    distances = _distances(5, 9, 4)
    together = log_transport_plan(distances, 0.05, 20)
    for own, plan in zip(distances, together, strict=True):
        torch.testing.assert_close(log_transport_plan(own, 0.05, 20), plan)


def test_equal_distances_give_a_uniform_plan_and_epsilon_must_be_positive() -> None:
    assert log_transport_plan(torch.ones(3, 2), 0.003, 5).exp().allclose(torch.full((3, 2), 0.5))
    with pytest.raises(ValueError, match="epsilon 0; expected more than 0"):
        log_transport_plan(torch.ones(3, 2), 0, 5)


@pytest.mark.parametrize(("epsilon", "lean"), [(0.003, 0.0), (0.003, 2.0), (0.0005, 1.0), (0.3, 0.0)])
def test_scaling_equals_the_log_domain(monkeypatch: pytest.MonkeyPatch, epsilon: float, lean: float) -> None:
    distances = _distances(3, 40, 12) + lean * (torch.arange(12) > 0)
    quick = log_transport_plan(distances, epsilon, 35)
    monkeypatch.setattr(sinkhorn, "_by_scaling", lambda *_: None)
    torch.testing.assert_close(quick, log_transport_plan(distances, epsilon, 35), rtol=1e-9, atol=1e-9)
