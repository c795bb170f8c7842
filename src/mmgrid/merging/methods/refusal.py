"""What a method refuses whatever the tensors are: too few sources, or weights that add up to zero.

It is asked with tensors that have no elements, so that a plan can say in milliseconds what would otherwise end a build
that has waited for its models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import Method


def refusal(method: Method, weights: Sequence[float], options: Mapping[str, Any]) -> str | None:
    """Why a method cannot merge with these numbers; None if it can, as far as can be told without tensors.

    Args:
        weights: one for each source.
        options: resolved.
    """
    empty = [np.zeros((0, 0) if method.whole_tensors else 0, np.float32)] * len(weights)
    try:
        if method.takes_gram:
            method.coefficients(np.eye(len(weights)), weights, options)
        elif not method.takes_passes:
            method.combine(empty, weights, options, empty[0], empty)
    except MergeError as error:
        return str(error)
    except Exception:  # of a plug-in that expects elements: the merge itself tells
        return None
    return None
