"""Whom an evaluation asks and what it knows: the same for all models of a domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.data import Corpus, Items, TestSet, catalogue_at, test_set
from mmgrid.data.calendar import Calendar
from mmgrid.grid.builders.job import Job

MOST = 4  # scenes that a process keeps: a pair of domains is evaluated in turns, and each may look at all test users


@dataclass(frozen=True, eq=False)
class Scene:
    """The test users of a domain, its catalogue, and how often each item was taken before (int64[items])."""

    items: Items
    tested: TestSet
    counts: np.ndarray


_kept: dict[tuple[object, ...], Scene] = {}


def scene(job: Job) -> Scene:
    """The scene of an evaluation's recipe; kept for the next evaluation of this process."""
    return scene_of(job.upstream("corpus"), job.calendar, job.recipe)


def scene_of(corpus: Path, calendar: Calendar, recipe: Mapping[str, Any]) -> Scene:
    """The scene of the recipe of an evaluation on the corpus in that folder."""
    names = ("target", "max_users", "sample_seed", "catalogue")
    key = (corpus, calendar, *(recipe.get(name) for name in names))
    if key not in _kept:
        while len(_kept) >= MOST:
            _kept.pop(next(iter(_kept)))
        _kept[key] = _read(corpus, calendar, recipe)
    return _kept[key]


def _read(folder: Path, calendar: Calendar, recipe: Mapping[str, Any]) -> Scene:
    target, catalogue = recipe["target"], recipe["catalogue"]
    # Tuning on phase2 must not see the test phase, and a test needs its targets.
    end = calendar.t2 if target == "phase2" else calendar.test.end
    known_until = calendar.t1 if target == "phase2" else calendar.t2
    corpus = Corpus.load(folder, until=end)
    items = catalogue_at(corpus, catalogue, known_until)
    tested = test_set(corpus, calendar, target, recipe["max_users"], recipe.get("sample_seed", 0))
    counts = np.bincount(corpus.items[corpus.timestamps < known_until], minlength=len(items))
    return Scene(items, tested, counts)
