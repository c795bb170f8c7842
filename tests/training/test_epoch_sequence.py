"""The order of examples is a permutation determined by (seed, epoch) alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmgrid.training.schedule import EpochSequence


class Numbers:
    """Examples that are pairs of their index and the epoch in which they are drawn."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def draw(self, index: int, epoch: int) -> tuple[int, int]:
        return epoch, index

    def collate(self, drawn: Sequence[Any]) -> dict[str, Any]:
        return {"drawn": drawn}


def _all(n: int, epochs: float, seed: int) -> list[tuple[int, int]]:
    sequence = EpochSequence(Numbers(n), epochs, seed)
    return [sequence[position] for position in range(len(sequence))]


def test_each_epoch_visits_every_example_once() -> None:
    drawn = _all(50, 3, seed=0)
    orders = [[index for epoch, index in drawn if epoch == number] for number in range(3)]
    assert [epoch for epoch, _ in drawn] == [0] * 50 + [1] * 50 + [2] * 50
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in [*orders, range(50)]}) == 4


def test_the_order_of_an_epoch_does_not_depend_on_the_number_of_epochs() -> None:
    assert _all(20, 5, seed=3)[:40] == _all(20, 2, seed=3)
    assert _all(20, 2, seed=3) != _all(20, 2, seed=4)


def test_few_examples_are_repeated_up_to_the_least_number() -> None:
    assert len(EpochSequence(Numbers(20), 3, 0, least=59)) == 60
    more = EpochSequence(Numbers(20), 3, 0, least=65)
    assert [more[position] for position in range(65)] == _all(20, 4, seed=0)[:65]
    assert len(EpochSequence(Numbers(0), 3, 0, least=65)) == 0


def test_positions_may_be_read_in_any_order() -> None:
    """A resumed run starts in the middle."""
    expected = _all(20, 3, seed=0)
    for position in np.random.default_rng(0).permutation(60):
        assert EpochSequence(Numbers(20), 3, 0)[int(position)] == expected[position]
    sequence = EpochSequence(Numbers(20), 3, 0)
    assert [sequence[position] for position in reversed(range(60))][::-1] == expected


def test_part_of_an_epoch_is_rounded_up_to_an_example() -> None:
    assert len(_all(10, 0.25, seed=0)) == 3
    assert _all(10, 1.5, seed=0) == _all(10, 2, seed=0)[:15]
    for steps, batch, rows in [(600, 32, 977), (20, 16, 49), (1, 1, 3), (600, 32, 123457)]:
        assert len(EpochSequence(Numbers(rows), steps * batch / rows, 0)) == steps * batch


def test_golden_order() -> None:
    """A golden value: if it changed, a later version could not resume or repeat a run."""
    assert [index for _, index in _all(6, 2, seed=0)] == [1, 3, 0, 4, 5, 2, 1, 2, 4, 5, 0, 3]


def test_no_examples_give_an_empty_sequence() -> None:
    assert _all(0, 3, seed=0) == []
