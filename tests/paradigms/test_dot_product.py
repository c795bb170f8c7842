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


@pytest.mark.parametrize("scores", [1, 40 * 600, 1 << 30])
@pytest.mark.parametrize("users", [7, 40, 130, 139])
def test_the_size_of_a_block_changes_no_byte(monkeypatch, scores: int, users: int) -> None:
    draw = torch.Generator().manual_seed(users)
    vectors, items = (torch.randn(rows, 24, generator=draw) for rows in (users, 600))
    items[300:] = items[:300]  # every score twice
    histories = make_histories([[user, user + 1] for user in range(users)])
    targets = np.random.default_rng(users).integers(0, 600, users)

    def found() -> list[np.ndarray]:
        ranks = dense_ranks(vectors, items, histories, make_items(600), targets)
        return [ranks, *dense_top(vectors, items, histories, make_items(600), 9)]

    whole = found()
    monkeypatch.setattr(dense, "SCORES", scores)
    assert all((one == other).all() for one, other in zip(found(), whole, strict=True))


@pytest.mark.parametrize("n_items", [10, 10_000, 32_768, 40_000, 1_000_000, 4_400_000, 100_000_000])
@pytest.mark.parametrize("users", [1, 15, 1024, 1025, 2100])
def test_blocks_have_a_limited_number_of_scores(n_items: int, users: int) -> None:
    blocks = list(dense._blocks(users, n_items))
    assert [place for start, stop in blocks for place in range(start, stop)] == list(range(users))
    sizes = [stop - start for start, stop in blocks]
    assert max(sizes) <= dense.BLOCK
    assert max(sizes) * n_items <= max(1.5 * dense.SCORES, 2 * dense.LEAST * n_items)
    # Small blocks are those that there are without a limit, too: their products are rounded in another way.
    assert all(size >= dense.LEAST or size == users % dense.BLOCK for size in sizes)
    if n_items <= dense.SCORES // dense.BLOCK:
        assert len(blocks) == -(-users // dense.BLOCK)


def test_no_items_and_no_users_are_ranked() -> None:
    best, _ = dense_top(torch.zeros(0, D), torch.zeros(5, D), make_histories([]), make_items(5), 3)
    assert best.shape == (0, 3)
