"""The groups of test users in every table: all, recently active, and not recently active.

A user is *active* with at least one interaction in the phase before that of the target (phase2 for the test).
"""

import numpy as np
import numpy.typing as npt

GROUPS = ("all", "active", "non_active")
"""The groups, in the order in which tables list them."""


def group_masks(active: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.bool_]]:
    """bool[B] for each of `GROUPS`; `active` and `non_active` partition `all`.

    Raises:
        ValueError: if `active` is not a boolean vector (0/1 integers would silently select rows 0 and 1).
    """
    active = np.asarray(active)
    if active.ndim != 1 or active.dtype != np.bool_:
        raise ValueError(f"active: expected bool[users], got {active.dtype}{active.shape}")
    return {"all": np.ones(active.shape, np.bool_), "active": active, "non_active": ~active}
