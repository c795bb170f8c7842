"""What a micro-batch makes a training hold in memory. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

LOGITS_AT_ONCE = 1 << 26  # of `shared.sliced_loss`: more are computed in slices, and again in the backward pass
LOGIT_BYTES = 4.0  # kept of a logit: its log-probability in float32
PASSING_BYTES = 10.0  # held for a moment: the logit in bf16 and in float32, and its gradient
LONG = 2.0  # a long text, in mean texts


@dataclass(frozen=True)
class Tower:
    """Layers that read tokens.

    at_once: tokens whose activations are held; the others are read again. parts: the same, as parts of all.
    """

    layers: int
    tokens: float
    at_once: float = math.inf
    parts: int = 1

    @property
    def held(self) -> float:
        """Tokens whose activations are held at the same time."""
        return min(self.tokens / self.parts, self.at_once)


@dataclass(frozen=True)
class MicroBatch:
    """The largest micro-batch: of full histories and long texts.

    towers: what reads it. logits: how many the loss has. sliced: whether many logits are computed in slices. other:
    further bytes that are kept.
    """

    towers: tuple[Tower, ...] = ()
    logits: float = 0.0
    sliced: bool = True
    other: float = 0.0

    def share(self, processes: int) -> MicroBatch:
        """What one of several processes reads of it."""
        towers = tuple(replace(tower, tokens=tower.tokens / processes) for tower in self.towers)
        return replace(self, towers=towers, logits=self.logits / processes, other=self.other / processes)

    @property
    def logits_kept(self) -> float:
        """Logits that the backward pass needs."""
        return 0.0 if self.sliced and self.logits > LOGITS_AT_ONCE else self.logits

    @property
    def logits_passing(self) -> float:
        """Logits that stand in memory at the same time."""
        return min(self.logits, float(LOGITS_AT_ONCE)) if self.sliced else self.logits
