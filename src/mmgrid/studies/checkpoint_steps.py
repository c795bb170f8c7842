"""How the newest step of training relates to the one before: its length and its direction."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from mmgrid.studies.opened_models import opened_models


def step_facts(checkpoints: Mapping[str, Path], paradigm: str) -> dict[str, float | None]:
    """`norm_ratio` = |τ₂| / |τ₁| and `cosine` of τ₁ and τ₂, of the last two steps between three checkpoints.

    τ₂ is the newest checkpoint minus the one before, τ₁ that one minus the one before it; a domain's own token rows do
    not count. Both are None if there are fewer than three checkpoints, or if a step is zero.

    Args:
        checkpoints: phase → folder, oldest first.

    Raises:
        MergeError: a checkpoint cannot be read.
    """
    from mmgrid.merging.compare import compare

    if len(checkpoints) < 3:
        return {"norm_ratio": None, "cosine": None}
    names = list(checkpoints)[-3:]
    with ExitStack() as stack:
        opened = opened_models({name: checkpoints[name] for name in names}, paradigm, stack)
        oldest, middle, newest = (opened[name] for name in names)
        pair = compare(oldest, newest, base=middle).whole.pair()
    back, onward = pair.norms
    if not back or not onward or math.isnan(pair.cosine):
        return {"norm_ratio": None, "cosine": None}
    return {"norm_ratio": onward / back, "cosine": -pair.cosine}  # from the middle, the first step points back
