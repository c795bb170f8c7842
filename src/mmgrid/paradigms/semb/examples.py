"""The training examples of semb: windows of items, and the negatives that their items are told from."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmgrid.paradigms.semb.spec import SembRecipe
from mmgrid.paradigms.shared.packing import TokenTable, pack
from mmgrid.paradigms.shared.padding import pad_right
from mmgrid.paradigms.shared.windows import Windows, target_mask
from mmgrid.seeds import generator
from mmgrid.training.share import Share, weight_of

Drawn = tuple[np.ndarray, int, np.ndarray]
"""Item rows of a window, the number of them before the first target, and the negatives that it draws."""


class SembExamples:
    """One example per window, with its share of the batch's negatives; each epoch draws new negatives."""

    def __init__(self, windows: Windows, table: TokenTable, candidates: np.ndarray, recipe: SembRecipe, seed: int):
        self.windows = windows
        self.times = windows.times
        self.table = table
        self.candidates = candidates
        # A micro-batch that shares none draws a full pool: gradient accumulation must not shrink it.
        self.negatives = math.ceil(recipe.negatives * recipe.accumulation / recipe.parts / recipe.batch_size)
        self.batch_negatives = recipe.batch_negatives
        self.seed = seed
        places = np.bincount(windows.all_items(), minlength=len(table))
        self.share = places / max(places.sum(), 1)  # probability of each item at a position of a window

    def __len__(self) -> int:
        return len(self.windows)

    def draw(self, index: int, epoch: int) -> Drawn:
        drawn = generator(self.seed, "negatives", epoch, index).integers(len(self.candidates), size=self.negatives)
        return self.windows.sequence(index), self.windows.n_context(index), self.candidates[drawn]

    def units(self, drawn: Sequence[Drawn]) -> int:
        """The number of targets."""
        return sum(len(sequence) - n_context for sequence, n_context, _ in drawn)

    def collate(self, drawn: Sequence[Drawn]) -> dict[str, Any]:
        """A batch in which each distinct item is packed, and so encoded, once."""
        return self._collate(drawn, drawn, Share())

    def collate_share(self, drawn: Sequence[Drawn], share: Share) -> tuple[dict[str, Any], float]:
        """Own sequences against the negatives of all, of which each process encodes its share."""
        mine = drawn[share.part(len(drawn))]
        batch = self._collate(mine or drawn[:1], drawn, share)
        return batch | {"sizes": share.sizes(len(batch["log_chance"]))}, weight_of(self, mine, drawn, share)

    def _collate(self, mine: Sequence[Drawn], drawn: Sequence[Drawn], share: Share) -> dict[str, Any]:
        """The sequences of `mine`, and the share of the negatives of `drawn`."""
        pool = np.concatenate([negatives for _, _, negatives in drawn])
        log_chance = np.zeros(len(pool))
        if self.batch_negatives:
            n_places, n_drawn = sum(len(sequence) for sequence, _, _ in drawn), len(pool)
            pool = np.unique(np.concatenate([*(sequence for sequence, _, _ in drawn), pool]))
            log_chance = self._log_chance(pool, n_places, n_drawn)
        sequences, n_context, _ = zip(*mine, strict=True)
        places = np.concatenate(sequences)
        lengths = [len(sequence) for sequence in sequences]
        distinct, place = np.unique(np.concatenate([places, pool[share.part(len(pool))]]), return_inverse=True)
        in_sequences, in_negatives = np.split(place, [len(places)])
        own = np.zeros((len(sequences), len(pool)), bool)
        if self.batch_negatives:  # a user's own items are not there by chance, so no correction fits
            own[np.repeat(np.arange(len(sequences)), lengths), np.searchsorted(pool, places)] = True
        return pack(self.table, distinct).tensors() | {
            "sequences": torch.from_numpy(pad_right(np.split(in_sequences, np.cumsum(lengths)[:-1]))),
            "is_target": target_mask(sequences, n_context),
            "negatives": torch.from_numpy(in_negatives),
            "log_chance": torch.from_numpy(log_chance.astype(np.float32)),
            "own": torch.from_numpy(own),
        }

    def _log_chance(self, items: np.ndarray, n_places: int, n_drawn: int) -> np.ndarray:
        """The log-probability of each item to be among a batch's distinct items, from the windows or by a draw."""
        with np.errstate(divide="ignore"):  # log 0: a single item is always there
            missed = n_places * np.log1p(-self.share[items]) + n_drawn * np.log1p(-1 / len(self.candidates))
        return np.log(-np.expm1(missed))
