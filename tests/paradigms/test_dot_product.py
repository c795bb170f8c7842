"""Exact dense ranking against the numpy ranking of `mmgrid.evaluation`, ties and all."""

import numpy as np
import pytest
import torch

from kits.ranks import in_histories, ranks_by_sorting
from mmgrid.data import Histories
from mmgrid.paradigms.shared import dot_product as dense
from mmgrid.paradigms.shared.dot_product import dense_ranks, dense_top
from mmgrid.testing.data import make_histories, make_items

U, N, D = 23, 31, 3


@pytest.fixture(params=[1024, 5])
def block(request, monkeypatch) -> None:
    monkeypatch.setattr(dense, "BLOCK", request.param)


def _case(seed: int) -> tuple[torch.Tensor, torch.Tensor, Histories]:
    """Vectors of small whole numbers: their products are exact and many of them equal."""
    rng = np.random.default_rng(seed)
    users, items = (torch.tensor(rng.integers(-1, 2, (rows, D)), dtype=torch.float32) for rows in (U, N))
    return users, items, make_histories([rng.choice(N, rng.integers(1, 9), replace=False).tolist() for _ in range(U)])


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("seed", range(4))
def test_ranks_are_those_of_evaluation(seed: int) -> None:
    users, items, histories = _case(seed)
    catalogue = make_items(N).with_candidates(np.random.default_rng(seed).choice(N, 20, replace=False))
    scores = (users @ items.T).numpy()
    for targets in np.random.default_rng(seed).integers(0, N, (5, U)):
        excluded = in_histories(histories.offsets, histories.items, N)
        expected = ranks_by_sorting(scores, targets, excluded, catalogue.is_candidate())
        assert (dense_ranks(users, items, histories, catalogue, targets) == expected).all()


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("k", [1, 4, 10, N, N + 5])
def test_lists_hold_the_items_by_rank(k: int) -> None:
    """Among equal scores the lower row comes first, also where only some of the equals fit in."""
    users, items, histories = _case(7)
    catalogue = make_items(N).with_candidates(range(2, 26))
    best, scores = dense_top(users, items, histories, catalogue, k)
    assert best.shape == scores.shape == (U, k)
    every = (users @ items.T).numpy()
    for user in range(U):
        allowed = np.setdiff1d(catalogue.candidates, histories.of(user))
        order = sorted(allowed, key=lambda row: (-every[user, row], row))[:k]
        assert best[user].tolist() == order + [-1] * (k - len(order))
        assert scores[user, : len(order)].tolist() == every[user, order].tolist()
        assert np.isneginf(scores[user, len(order) :]).all()


def test_all_scores_equal() -> None:
    users, items = torch.zeros(2, D), torch.ones(500, D)
    best, _ = dense_top(users, items, make_histories([[0], [2]]), make_items(500), 4)
    assert best.tolist() == [[1, 2, 3, 4], [0, 1, 3, 4]]


def test_a_broken_score_is_an_error() -> None:
    users, items, histories = _case(0)
    users[3, 0] = float("inf")
    with pytest.raises(ValueError, match=f"scores of users 0 to {U - 1} hold NaN or infinity"):
        dense_ranks(users, items, histories, make_items(N), np.zeros(U, np.int64))
