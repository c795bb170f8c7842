"""The two recommenders that every trained model must beat: popularity and random order.

Both are ranked like every model: over the candidates, with the user's history masked and no target dropped. Neither
needs a score for each user and item. Popularity is one order of all items, from which the items of a history are
removed; a random order places the target at each rank with equal probability.

Shapes: `U` users, `N` items. Histories are given as `offsets` int[U + 1] and `items` int[offsets[-1]];
the history of user i is `items[offsets[i]:offsets[i + 1]]`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmgrid.evaluation.ranking import NOT_RANKED
from mmgrid.seeds import derive


def popularity_ranks(
    counts: npt.NDArray[np.integer],
    targets: npt.NDArray[np.integer],
    offsets: npt.NDArray[np.integer],
    items: npt.NDArray[np.integer],
    candidates: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """Rank of each target if items are recommended in order of their number of interactions.

    Args:
        counts: int[N], interactions of each item; count training interactions only (before t2), for example
            with `np.bincount(training_items, minlength=N)`. Among equal counts, the lower row comes first.
        targets: int[U] item rows.
        offsets, items: the histories, which are masked.
        candidates: bool[N], or `None` for every item.

    Returns:
        int64[U]; `NOT_RANKED` if the target is not a candidate or lies in the history.
    """
    counts, targets = np.asarray(counts), np.asarray(targets)
    n_items = len(counts)
    eligible = np.ones(n_items, np.bool_) if candidates is None else candidates
    users, seen = _distinct_history(offsets, items, targets, n_items)
    order = np.lexsort((np.arange(n_items), -counts.astype(np.int64)))
    before = np.empty(n_items, np.int64)  # candidates ranked before an item, for a user without history
    before[order] = np.cumsum(eligible[order]) - eligible[order]
    place = np.empty(n_items, np.int64)
    place[order] = np.arange(n_items)
    ahead = eligible[seen] & (place[seen] < place[targets[users]])
    ranks = before[targets] - np.bincount(users[ahead], minlength=len(targets))
    ranks[_hidden(targets, users, seen, eligible)] = NOT_RANKED
    return ranks


def random_ranks(
    user_ids: Sequence[str] | npt.NDArray[np.str_],
    targets: npt.NDArray[np.integer],
    offsets: npt.NDArray[np.integer],
    items: npt.NDArray[np.integer],
    n_items: int,
    candidates: npt.NDArray[np.bool_] | None = None,
    *,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Rank of each target if the eligible items are recommended in random order.

    A user's draw depends only on the seed and the user's id, not on the position or on the other users.

    Args:
        user_ids: U ids.
        targets, offsets, items, candidates: as for `popularity_ranks`.
        n_items: N.

    Returns:
        int64[U]; `NOT_RANKED` if the target is not a candidate or lies in the history.
    """
    targets = np.asarray(targets)
    if len(user_ids) != len(targets):
        raise ValueError(f"user_ids ({len(user_ids)}) and targets ({len(targets)}): expected one id per target")
    eligible = np.ones(n_items, np.bool_) if candidates is None else candidates
    users, seen = _distinct_history(offsets, items, targets, n_items)
    choices = int(eligible.sum()) - np.bincount(users[eligible[seen]], minlength=len(targets))
    ranks = np.empty(len(targets), np.int64)
    for position, (user, count) in enumerate(zip(user_ids, choices.tolist(), strict=True)):
        # The high bits of the product are uniform over the choices and need no generator per user.
        ranks[position] = (derive(seed, "evaluation", "random", str(user)) * count) >> 63
    ranks[_hidden(targets, users, seen, eligible)] = NOT_RANKED
    return ranks


def _distinct_history(
    offsets: npt.NDArray[np.integer],
    items: npt.NDArray[np.integer],
    targets: npt.NDArray[np.integer],
    n_items: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct pairs (user position, item row) of all histories."""
    offsets, items = np.asarray(offsets, np.int64), np.asarray(items, np.int64)
    if offsets.shape != (len(targets) + 1,) or int(offsets[-1]) != len(items):
        raise ValueError(f"offsets {offsets.shape}: expected {len(targets) + 1} that end at {len(items)}")
    for name, rows in (("history items", items), ("targets", np.asarray(targets))):
        if rows.size and (int(rows.min()) < 0 or int(rows.max()) >= n_items):
            raise ValueError(f"{name}: rows must lie in [0, {n_items}), the number of items")
    users = np.repeat(np.arange(len(targets)), np.diff(offsets))
    pairs = np.unique(users * np.int64(n_items) + items)
    return pairs // max(1, n_items), pairs % max(1, n_items)


def _hidden(
    targets: npt.NDArray[np.integer],
    users: npt.NDArray[np.int64],
    seen: npt.NDArray[np.int64],
    eligible: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """bool[U]: the targets that can never be recommended."""
    hidden = ~eligible[targets]
    hidden[users[seen == targets[users]]] = True
    return hidden
