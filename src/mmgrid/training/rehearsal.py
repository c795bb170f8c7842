"""Training on a new phase that does not forget the old ones: each batch mixes in examples of earlier phases.

Source: experience rehearsal, as in Robins 1995 (Catastrophic forgetting, rehearsal and pseudorehearsal).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmgrid.seeds import generator
from mmgrid.training.schedule import Examples
from mmgrid.training.share import Share, collate_share


class Rehearsal:
    """The examples of a phase, and `share` times as many that are drawn anew in each epoch from earlier ones.

    A batch is two batches of the paradigm, one of each kind, so that negatives and their corrections stay those of
    the data that they come from.
    """

    def __init__(self, newest: Examples, earlier: Examples, share: float, seed: int):
        self.newest = newest
        self.earlier = earlier
        self.drawn = round(share * len(newest)) if len(earlier) else 0
        self.seed = seed

    def __len__(self) -> int:
        return len(self.newest) + self.drawn

    def draw(self, index: int, epoch: int) -> tuple[bool, Any]:
        if index < len(self.newest):
            return True, self.newest.draw(index, epoch)
        chosen = int(generator(self.seed, "rehearsal", epoch, index).integers(len(self.earlier)))
        return False, self.earlier.draw(chosen, epoch)

    def collate(self, drawn: Sequence[tuple[bool, Any]]) -> dict[str, Any]:
        """The batches of both kinds (`parts`), without those that are empty, and their numbers of examples."""
        parts, sizes = [], []
        for examples, own in self._of_each_kind(drawn):
            parts.append(examples.collate(own))
            sizes.append(len(own))
        return {"parts": parts, "sizes": sizes, "size": sum(sizes)}

    def collate_share(self, drawn: Sequence[tuple[bool, Any]], share: Share) -> tuple[dict[str, Any], float]:
        """Of each kind its share, since each kind has a mean of its own."""
        parts, sizes = [], []
        for examples, own in self._of_each_kind(drawn):
            part, weight = collate_share(examples, own, share)
            parts.append(part)
            sizes.append(weight * len(own))
        return {"parts": parts, "sizes": sizes, "size": len(drawn)}, 1.0

    def _of_each_kind(self, drawn: Sequence[tuple[bool, Any]]) -> Iterator[tuple[Examples, list[Any]]]:
        for examples, kind in ((self.newest, True), (self.earlier, False)):
            if own := [example for is_new, example in drawn if is_new == kind]:
                yield examples, own


def rehearsed(loss: Callable[[nn.Module, dict[str, Any]], Tensor]) -> Callable[[nn.Module, dict[str, Any]], Tensor]:
    """The mean loss of a batch of `Rehearsal`, by the loss of a paradigm."""

    def of_parts(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        losses = [size * loss(model, part) for part, size in zip(batch["parts"], batch["sizes"], strict=True)]
        return torch.stack(losses).sum() / batch["size"]

    return of_parts
