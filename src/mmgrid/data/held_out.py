"""The protocol of every evaluation: which users are evaluated, on which catalogue, and what is known at that time.

The target of a user is the last interaction, if it lies in the target phase. All interactions before it are the user's
history, including those in the target phase. `target="phase2"` evaluates one phase earlier, on data before t2: tune
values only there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.calendar import Calendar, Phase, format_time
from mmgrid.data.catalogue import Catalogue, catalogue_at
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import NoTestUsersError
from mmgrid.data.histories import Histories
from mmgrid.data.items import Items
from mmgrid.data.sampling import nested_sample

Target = Literal["test", "phase2"]

_PHASE_BEFORE = {"test": "phase2", "phase2": "phase1"}


@dataclass(frozen=True, eq=False)
class HeldOutUsers:
    """U users with a held-out interaction, sorted by id.

    Attributes:
        histories: all interactions before each target.
        targets: int64[U] item rows.
        active: bool[U], whether the user has an interaction in the phase before the target phase.
        user_ids: str[U].
    """

    histories: Histories
    targets: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]
    user_ids: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.targets)

    def ranks_table(self, ranks: npt.NDArray[np.integer]) -> pl.DataFrame:
        """user_id, target, active, rank: one row per user. ranks: int[U], of the targets."""
        columns = {"user_id": self.user_ids.tolist(), "target": self.targets, "active": self.active, "rank": ranks}
        return pl.DataFrame(columns)


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a domain at one time.

    Attributes:
        corpus: the interactions before `until`.
        items: the catalogue, with the candidates of that time.
        until: the time, ms UTC.
    """

    corpus: Corpus
    items: Items
    until: int

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64[N]: the number of interactions of each item, its popularity."""
        return np.bincount(self.corpus.items, minlength=len(self.items))


@dataclass(frozen=True, eq=False)
class HeldOut(Known):
    """The users of an evaluation, and what is known when they are evaluated.

    Attributes:
        users: the evaluated users: all with a held-out interaction, or a sample.
        everyone: the histories of all users with a held-out interaction, sorted by id.
    """

    users: HeldOutUsers
    everyone: Histories


def known_now(corpus: Corpus, catalogue: Catalogue = "closed") -> Known:
    """Everything in the corpus, for recommendations after its last interaction."""
    until = int(corpus.timestamps.max()) + 1 if len(corpus) else 0
    return Known(corpus, catalogue_at(corpus, catalogue, until), until)


def held_out(
    corpus: Corpus | Path,
    calendar: Calendar,
    target: Target = "test",
    *,
    catalogue: Catalogue = "closed",
    max_users: int | None = None,
    seed: int = 0,
) -> HeldOut:
    """The users of one evaluation, and the catalogue and interactions that are known at its time.

    Args:
        corpus: the prepared domain, or its folder.
        calendar: of the phases.
        target: the phase of the held-out interactions, see `held_out_users`.
        catalogue: `closed`, or `open` for only the items with an interaction before the target phase.
        max_users: sample at most this many users; samples are nested.
        seed: of the sample.

    Raises:
        DataError: the folder contains no prepared domain.
        NoTestUsersError: no user has a held-out interaction.
    """
    known_until = end_of_knowledge(calendar, target)
    # The targets lie in the target phase itself; nothing after it may be read.
    end = calendar.phase(target).end
    corpus = corpus.before(end) if isinstance(corpus, Corpus) else Corpus.load(corpus, until=end)
    items = catalogue_at(corpus, catalogue, known_until)
    users = held_out_users(corpus, calendar, target, max_users, seed)
    everyone = users if max_users is None else held_out_users(corpus, calendar, target)
    return HeldOut(corpus.before(known_until), items, known_until, users, everyone.histories)


def end_of_knowledge(calendar: Calendar, target: Target) -> int:
    """The time (ms UTC) until which catalogue and popularity are known: the start of the target phase."""
    return _phase_of(calendar, target).start


def held_out_users(
    corpus: Corpus,
    calendar: Calendar,
    target: Target = "test",
    max_users: int | None = None,
    seed: int = 0,
) -> HeldOutUsers:
    """The users whose last interaction lies in the target phase, with that interaction as the target.

    Users without an interaction before the target are left out: they have no history.

    Args:
        target: "test", where active users have an interaction in phase2; or "phase2", where they have one in phase1,
            and no interaction at or after t2 is read.
        max_users: sample at most this many users; samples are nested and the same for every model.
        seed: of the sample.

    Raises NoTestUsersError if there is no such user.
    """
    phase, before = _phase_of(calendar, target), calendar.phase(_PHASE_BEFORE[target])
    known = corpus.histories(phase.end)
    last = known.offsets[1:] - 1
    chosen = np.flatnonzero((known.timestamps[last] >= phase.start) & (known.lengths > 1))
    if not chosen.size:
        raise NoTestUsersError(
            f"{corpus.name}: no test users: no user's last interaction lies in {phase} with another one before it; "
            f"{_time_range(corpus)}. Choose phases within that time, or leave the domain out"
        )
    chosen = chosen[nested_sample(corpus.user_ids[known.users[chosen]], max_users, seed, f"{target} users")]
    whole = known.take(chosen)
    is_target = np.zeros(len(whole.items), np.bool_)
    is_target[whole.offsets[1:] - 1] = True
    histories = Histories(
        whole.users,
        whole.offsets - np.arange(len(whole) + 1),
        whole.items[~is_target],
        whole.timestamps[~is_target],
        phase.end,
    )
    in_phase_before = (histories.timestamps >= before.start) & (histories.timestamps < before.end)
    active = np.add.reduceat(in_phase_before, histories.offsets[:-1], dtype=np.int64) > 0
    return HeldOutUsers(histories, whole.items[is_target].astype(np.int64), active, corpus.user_ids[whole.users])


def _phase_of(calendar: Calendar, target: Target) -> Phase:
    if target not in get_args(Target):
        raise ValueError(f"target {target!r}: expected one of {', '.join(get_args(Target))}")
    return calendar.phase(target)


def _time_range(corpus: Corpus) -> str:
    if not len(corpus):
        return "its data is empty"
    low, high = int(corpus.timestamps.min()), int(corpus.timestamps.max())
    return f"its data runs from {format_time(low)} to {format_time(high)}"
