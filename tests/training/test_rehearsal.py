"""Examples of earlier phases in the batches of a later one."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmgrid.training.rehearsal import Rehearsal, rehearsed


class Numbers:
    """Examples that are numbers, and a batch that knows whose it is."""

    def __init__(self, name: str, values: Sequence[float]):
        self.name, self.values = name, values

    def __len__(self) -> int:
        return len(self.values)

    def draw(self, index: int, epoch: int) -> float:
        return self.values[index]

    def collate(self, drawn: Sequence[float]) -> dict[str, Any]:
        return {"of": self.name, "values": torch.tensor(drawn)}


NEW, OLD = Numbers("new", [1.0, 2.0, 3.0, 4.0]), Numbers("old", [10.0, 20.0, 30.0])


def _loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    return batch["values"].mean()


def test_each_epoch_has_all_new_examples_and_a_share_of_old_ones() -> None:
    examples = Rehearsal(NEW, OLD, 0.5, seed=3)
    assert len(examples) == 6
    drawn = [examples.draw(index, epoch) for epoch in range(50) for index in range(6)]
    assert Counter(value for is_new, value in drawn if is_new) == dict.fromkeys(NEW.values, 50)
    old = Counter(value for is_new, value in drawn if not is_new)
    assert sum(old.values()) == 100
    assert min(old[value] for value in OLD.values) > 15, "all have the same chance"
    assert [examples.draw(5, epoch) for epoch in range(9)] == [examples.draw(5, epoch) for epoch in range(9)]


def test_without_earlier_examples_there_is_nothing_to_rehearse() -> None:
    assert len(Rehearsal(NEW, Numbers("old", []), 0.5, seed=3)) == 4


def test_the_loss_is_the_mean_over_the_examples_of_both_kinds() -> None:
    examples = Rehearsal(NEW, OLD, 1.0, seed=3)
    drawn = [(True, 1.0), (False, 10.0), (True, 3.0), (False, 30.0), (True, 4.0)]
    batch = examples.collate(drawn)
    assert [part["of"] for part in batch["parts"]] == ["new", "old"]
    assert batch["sizes"] == [3, 2]
    assert float(rehearsed(_loss)(nn.Identity(), batch)) == torch.tensor([1, 10, 3, 30, 4.0]).mean()
    assert len(examples.collate(drawn[::2])["parts"]) == 1
