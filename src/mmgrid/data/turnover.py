"""How much a domain changes from one phase to the next: returning users, new items, likeness to a year before."""

import numpy as np
import numpy.typing as npt

from mmgrid.data.calendar import DAY_MS, Phase
from mmgrid.data.corpus import Corpus

YEAR_MS = 365 * DAY_MS


def return_rate(corpus: Corpus, earlier: Phase, newest: Phase) -> float | None:
    """The share (0 to 1) of the users of `earlier` who also have an interaction in `newest`; None if it has no users."""
    before, now = (np.unique(corpus.users[_within(corpus, phase.start, phase.end)]) for phase in (earlier, newest))
    return float(np.isin(before, now).mean()) if len(before) else None


def new_item_share(corpus: Corpus, newest: Phase) -> float | None:
    """The share (0 to 1) of the interactions of `newest` whose item has none before it; None without interactions."""
    now = corpus.items[_within(corpus, newest.start, newest.end)]
    known = np.unique(corpus.items[corpus.timestamps < newest.start])
    return float(np.isin(now, known, invert=True).mean()) if len(now) else None


def likeness_to_year_before(corpus: Corpus, phase: Phase) -> float | None:
    """The cosine (0 to 1) of the items' numbers of interactions in `phase` and in the same days of the year before.

    It is high where the same items come back with the season, or never leave. None if either time has no interactions.
    """
    now, before = (_counts(corpus, phase.start - back, phase.end - back) for back in (0, YEAR_MS))
    length = float(np.linalg.norm(now) * np.linalg.norm(before))
    return float(now @ before) / length if length else None


def _within(corpus: Corpus, start: int, end: int) -> npt.NDArray[np.bool_]:
    return (corpus.timestamps >= start) & (corpus.timestamps < end)


def _counts(corpus: Corpus, start: int, end: int) -> npt.NDArray[np.float64]:
    """float64[N]: the interactions of each item from `start` to `end`."""
    return np.bincount(corpus.items[_within(corpus, start, end)], minlength=len(corpus.catalogue)).astype(np.float64)
