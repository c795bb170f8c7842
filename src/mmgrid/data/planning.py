"""Guesses phases and a minimum of interactions with which a grid of given domains has something to train and to test."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mmgrid.data.calendar import DAY_MS, Calendar, Phase
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import DataError
from mmgrid.data.held_out import held_out_users
from mmgrid.data.preparation import prepare
from mmgrid.data.raw import RawDomain

_MINIMA = (5, 3, 2, 1)
_ENOUGH_USERS = 20  # test users of each domain, with which phases of equal length are kept
_HOUR_MS = DAY_MS // 24


@dataclass(frozen=True)
class Plan:
    """Phases, the minimum of interactions of a user and of an item, and what they leave of each domain, in order.

    of_time: whether the last phases are tenths of the time; otherwise, tenths of the interactions.
    """

    calendar: Calendar
    of_time: bool
    min_interactions: int
    users: tuple[int, ...]
    items: tuple[int, ...]
    test_users: tuple[int, ...]


def plan_phases(raws: Sequence[RawDomain]) -> Plan:
    """Phases over the whole time of the domains: the last three tenths are phase1, phase2 and test.

    Where that leaves too few test users, tenths of the interactions are taken instead of tenths of the time, and then
    a smaller minimum of interactions.

    Raises DataError if no choice leaves something to train and to test in every domain.
    """
    times = np.sort(np.concatenate([raw.log.timestamps for raw in raws]))
    step = DAY_MS if times[-1] - times[0] >= 8 * DAY_MS else _HOUR_MS
    guesses = ((_of_time(times, step), True), (_of_rows(times, step), False))
    calendars = [(calendar, of_time) for calendar, of_time in guesses if calendar is not None]
    if not calendars:
        raise DataError(
            f"{raws[0].name}: all interactions lie within a few hours; four phases need at least half a day"
        )
    problem: Exception | None = None
    for minimum in _MINIMA:
        plans = []
        for calendar, of_time in calendars:
            try:
                plans.append(_tried(raws, calendar, minimum, of_time=of_time))
            except DataError as error:
                problem = problem or error
        if plans:
            enough = [plan for plan in plans if min(plan.test_users) >= _ENOUGH_USERS]
            return (enough or sorted(plans, key=lambda plan: -min(plan.test_users)))[0]
    raise DataError(f"no phases were found in which every domain has something to train and to test: {problem}")


def _tried(raws: Sequence[RawDomain], calendar: Calendar, minimum: int, *, of_time: bool) -> Plan:
    corpora = [prepare(raw, calendar, min_interactions=minimum).corpus for raw in raws]
    tested = tuple(len(held_out_users(corpus, calendar)) for corpus in corpora)
    for corpus in corpora:
        _check_phases(corpus, calendar)
    users, items = tuple(corpus.n_users for corpus in corpora), tuple(len(corpus.catalogue) for corpus in corpora)
    return Plan(calendar, of_time, minimum, users, items, tested)


def _check_phases(corpus: Corpus, calendar: Calendar) -> None:
    for phase in calendar.phases[:3]:
        if not ((corpus.timestamps >= phase.start) & (corpus.timestamps < phase.end)).any():
            raise DataError(f"{corpus.name}: no interaction is left in {phase}")


def _of_time(times: np.ndarray, step: int) -> Calendar | None:
    start, end = _span(times, step)
    length = max(step, (end - start) // 10 // step * step)
    return _calendar(start, end - 3 * length, end - 2 * length, end - length, end)


def _of_rows(times: np.ndarray, step: int) -> Calendar | None:
    start, end = _span(times, step)
    cuts = [int(times[len(times) * tenths // 10]) // step * step for tenths in (7, 8, 9)]
    return _calendar(start, *cuts, end)


def _span(times: np.ndarray, step: int) -> tuple[int, int]:
    return int(times[0]) // step * step, int(times[-1]) // step * step + step


def _calendar(*ends: int) -> Calendar | None:
    if any(later <= earlier for earlier, later in pairwise(ends)):
        return None
    names = ("pretrain", "phase1", "phase2", "test")
    phases = [Phase(name, start, end) for name, start, end in zip(names, ends[:-1], ends[1:], strict=True)]
    return Calendar(*phases)
