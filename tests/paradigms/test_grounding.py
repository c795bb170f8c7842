"""From generated titles to a ranking: golden by brute force, and what must hold whatever the vectors are."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from mmgrid.data import Histories, Items, LeakageError
from mmgrid.decoding.tie_order import tie_keys
from mmgrid.evaluation import NOT_RANKED
from mmgrid.paradigms.text import grounding as module
from mmgrid.paradigms.text.grounding import DAY_MS, Grounding, popularity_factor
from mmgrid.testing.data import make_histories, make_items, random_histories

WIDTH = 12


def _embed(texts: Sequence[str]) -> np.ndarray:
    """A vector of length 1 for any text, a function of the text alone."""
    seeds = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") for text in texts]
    rows = [np.random.default_rng(seed).standard_normal(WIDTH) for seed in seeds]
    vectors = np.array(rows, np.float32).reshape(len(texts), WIDTH)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _grounding(items: Items, seed: int = 0) -> Grounding:
    return Grounding(_embed(items.titles), _embed, seed)


def _titled(*titles: str) -> Items:
    rows = np.arange(len(titles))
    return Items(rows.astype(str), list(titles), [""] * len(titles), rows)


def slow_lists(
    grounding: Grounding, titles: list[list[str]], histories: Histories, items: Items, factor: np.ndarray | None = None
) -> list[list[tuple[float, int, int, int]]]:
    """(distance, which title, key, item row) of each item that may be recommended, best first, for each user."""
    lists = []
    for user, generated in enumerate(titles):
        vectors = _embed([title for title in dict.fromkeys(generated) if title]).astype(np.float64)
        ranked = []
        for item in set(items.candidates.tolist()) - set(histories.of(user).tolist()):
            steps = ((grounding.vectors[item].astype(np.float64) - vectors) ** 2).sum(axis=1)
            distance = np.float32(steps.min())
            distance = distance if factor is None else distance / factor[item]
            key = tie_keys(grounding.seed, histories.users[user : user + 1], np.array([item]))[0]
            ranked.append((float(distance), int(steps.argmin()), int(key), item))
        lists.append(sorted(ranked))
    return lists


def _generated(n_users: int, items: Items, seed: int = 0) -> list[list[str]]:
    """Generated titles per user: some in the catalogue, some not, some empty, some twice."""
    rng = np.random.default_rng(seed)
    pool = [*items.titles[:10], *(f"made up {i}" for i in range(30)), ""]
    return [["made up", *rng.choice(pool, rng.integers(1, 6)).tolist()] for _ in range(n_users)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("block", [1 << 22, 300, 1])
def test_ranks_and_lists_are_those_of_brute_force(block: int, weighted: bool, monkeypatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", block)
    monkeypatch.setattr(module, "_PART_ELEMENTS", max(block // 10, 1))
    items = make_items(40).with_candidates(np.setdiff1d(np.arange(40), [3, 17]))
    items = Items(items.ids, [*items.titles[:30], *items.titles[:10]], items.descriptions, items.candidates)
    grounding, histories = _grounding(items, seed=3), random_histories(25, 40)
    titles = _generated(25, items)
    factor = np.linspace(9, 1, 40, dtype=np.float32) if weighted else None
    expected = slow_lists(grounding, titles, histories, items, factor)
    best, scores = grounding.top(titles, histories, items, 40, factor)
    for user, wanted in enumerate(expected):
        assert best[user, : len(wanted)].tolist() == [item for *_, item in wanted]
        np.testing.assert_allclose(-scores[user, : len(wanted)], [distance for distance, *_ in wanted], atol=1e-6)
        assert (best[user, len(wanted) :] == -1).all()
        assert np.isneginf(scores[user, len(wanted) :]).all()
    for place in (0, 1, 9, 25):
        targets = np.array([wanted[place][-1] for wanted in expected])
        assert (grounding.ranks(titles, histories, items, targets, factor) == place).all()
    short, _ = grounding.top(titles, histories, items, 7, factor)
    assert (short == best[:, :7]).all()


def test_a_title_generated_verbatim_comes_first_at_distance_zero() -> None:
    """Vectors that are long and nearly equal: in single precision nothing would be left of their distances."""
    items = make_items(50)
    rng = np.random.default_rng(0)
    vectors = (rng.lognormal(sigma=3, size=300) * (1 + 1e-4 * rng.standard_normal((50, 300)))).astype(np.float32)

    def embed(texts: Sequence[str]) -> np.ndarray:
        raise AssertionError(f"the vectors of {texts} are in the table")

    grounding, histories = Grounding(vectors, embed), make_histories([[(user + 1) % 50] for user in range(50)])
    best, scores = grounding.top([[f" {title}\n"] for title in items.titles], histories, items, 3)
    assert best[:, 0].tolist() == list(range(50))
    assert (scores[:, 0] == 0).all()
    exact = np.square(vectors[:, None].astype(np.float64) - vectors[best[:, 1:]]).sum(-1)
    np.testing.assert_allclose(-scores[:, 1:], exact, rtol=1e-4)


@pytest.mark.parametrize("factor", [None, np.array([9, 1, 4, 2], np.float32)])
def test_titles_generated_verbatim_rank_in_generated_order(factor: np.ndarray | None) -> None:
    """Popularity does not change the order."""
    items = _titled("lamp", "drum", "robot", "kite")
    titles = [["drum", "robot", "lamp"], ["robot", "lamp", "lamp", "drum"], ["made up", "robot"]]
    histories = make_histories([[3]] * 3)
    best, scores = _grounding(items).top(titles, histories, items, 3, factor)
    assert best[:2].tolist() == [[1, 2, 0], [2, 0, 1]]
    assert best[2, 0] == 2
    assert (scores[:2] == 0).all()
    for place in range(3):
        assert (_grounding(items).ranks(titles, histories, items, best[:, place], factor) == place).all()


def test_items_with_the_vector_of_a_generated_title_tie_with_that_title_only() -> None:
    """Titles that are cut before they are embedded may have equal vectors."""
    items = _titled("lamp", "lamp of brass", "drum", "robot")
    vectors = _embed(["lamp", "lamp", "drum", "robot"])
    best, _ = Grounding(vectors, _embed).top([["drum", "robot", "lamp"]], make_histories([[]]), items, 4)
    assert best[0, :2].tolist() == [2, 3]
    assert sorted(best[0, 2:].tolist()) == [0, 1]


class TestTies:
    ITEMS = _titled(*["red lamp"] * 30, *["drum"] * 20)

    def _top(self, users: Sequence[int], seed: int = 0, title: str = "red lamp") -> np.ndarray:
        histories = make_histories([[49]] * len(users))
        histories = Histories(np.array(users), histories.offsets, histories.items, histories.timestamps, histories.end)
        return _grounding(self.ITEMS, seed).top([[title]] * len(users), histories, self.ITEMS, 49)[0]

    def test_the_order_of_items_with_one_title_depends_on_the_user(self) -> None:
        best = self._top([3, 4, 5])
        assert (np.sort(best[:, :30]) == np.arange(30)).all(), "the lamps come first"
        assert len({tuple(order) for order in best[:, :30].tolist()}) == 3
        assert (best[:, :30] != np.arange(30)).any(axis=1).all()

    def test_the_order_does_not_depend_on_the_batch(self) -> None:
        best = self._top([3, 4, 5])
        assert (self._top([5, 9, 3])[[2, 0]] == best[[0, 2]]).all()
        assert (self._top([4])[0] == best[1]).all()
        assert (self._top([4], seed=1)[0] != best[1]).any()

    def test_ranks_are_positions_in_the_order(self) -> None:
        best, histories = self._top([0, 1, 2]), make_histories([[49]] * 3)
        for place in (0, 7, 29, 35):
            ranks = _grounding(self.ITEMS).ranks([["red lamp"]] * 3, histories, self.ITEMS, best[:, place])
            assert (ranks == place).all()

    def test_every_item_is_equally_likely_to_be_first(self) -> None:
        first = np.bincount(self._top(range(3000))[:, 0], minlength=50)
        assert ((first[:30] - 100) ** 2 / 100).sum() < 58, "the 99.9 % point for 29 degrees of freedom"

    def test_without_generated_titles_the_order_is_random(self) -> None:
        best = self._top(range(2), title=" ")
        assert (np.sort(best) == np.arange(49)).all()
        assert len({tuple(order) for order in best.tolist()}) == 2


def test_an_empty_title_changes_nothing() -> None:
    items, histories = make_items(20), random_histories(5, 20)
    grounding = _grounding(items)
    plain = grounding.top([["made up"]] * 5, histories, items, 20)
    found = grounding.top([["", "made up", " made  up"]] * 5, histories, items, 20)
    assert (plain[0] == found[0]).all()
    assert (plain[1] == found[1]).all()


def test_items_that_may_not_be_recommended_have_no_rank() -> None:
    items = make_items(9).with_candidates([0, 1, 2, 3, 4])
    histories = make_histories([[1, 2], [1, 2], [1, 2]])
    ranks = _grounding(items).ranks([["drum"]] * 3, histories, items, np.array([2, 7, 4]))
    assert (ranks[:2] == NOT_RANKED).all()
    assert 0 <= ranks[2] < 3


def test_tables_that_do_not_fit_are_refused() -> None:
    items, histories = make_items(9), make_histories([[1]])
    grounding = _grounding(items)
    with pytest.raises(ValueError, match="9 title vectors for 8 items"):
        grounding.top([["drum"]], histories, make_items(8), 3)
    with pytest.raises(ValueError, match="titles of 2 users for 1 histories"):
        grounding.top([["drum"], ["lamp"]], histories, items, 3)
    with pytest.raises(ValueError, match="expected 9 numbers, 0 or above"):
        grounding.top([["drum"]], histories, items, 3, np.full(9, -1, np.float32))
    with pytest.raises(ValueError, match="without NaN or infinity"):
        Grounding(np.full((9, 2), np.nan, np.float32), _embed)
    wrong = Grounding(grounding.vectors, lambda texts: np.zeros((len(texts), 3)))
    with pytest.raises(ValueError, match=r"embedded as \(1, 3\): expected 1 vectors of 12 numbers"):
        wrong.top([["drum"]], histories, items, 3)


class TestPopularity:
    END = 1000 * DAY_MS

    def _factor(self, ages_days: Sequence[float], items: Sequence[int], gamma: float = 0.25) -> np.ndarray:
        times = np.array([self.END - round(age * DAY_MS) for age in ages_days], np.int64)
        return popularity_factor(times, np.array(items, np.int32), 4, self.END, half_life_days=30, gamma=gamma)

    def test_an_interaction_counts_half_after_each_half_life(self) -> None:
        factor = self._factor([30, 60, 30, 300], [0, 0, 1, 2], gamma=1)
        np.testing.assert_allclose(factor, [1 + 0.5 + 0.25, 1.5, 1 + 2**-10, 1], rtol=1e-6)
        assert factor.dtype == np.float32
        np.testing.assert_allclose(self._factor([30] * 30, [0] * 30), [2, 1, 1, 1], rtol=1e-6)  # 16 ** 0.25

    @pytest.mark.parametrize("age_ms", [0, -1])
    def test_an_interaction_at_or_after_the_end_is_leakage(self, age_ms: int) -> None:
        times = np.array([self.END - DAY_MS, self.END - age_ms])
        with pytest.raises(LeakageError, match="1 interactions lie at or after"):
            popularity_factor(times, np.array([0, 1]), 4, self.END, half_life_days=30, gamma=1)

    def test_of_equally_distant_items_the_more_popular_comes_first(self) -> None:
        items = _titled("drum", "drum", "drum", "lamp")
        factor = self._factor([1, 1, 1], [2, 2, 1])
        best, scores = _grounding(items).top([["made up"]], make_histories([[3]]), items, 3, factor)
        assert best[0].tolist() == [2, 1, 0]
        np.testing.assert_allclose(scores[0] * factor[[2, 1, 0]], scores[0, 2], rtol=1e-6)
