"""What `text` needs beside its model: vectors of a domain's titles, popularity, others' histories, a seed.

The vectors are encoded once for all models of a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmgrid.data import Corpus
from mmgrid.grid.builders.job import Job
from mmgrid.grid.builders.scene import Scene, scene_of
from mmgrid.grid.builders.vectors import VECTORS_FILE, embedder
from mmgrid.grid.cells.cell import Cell
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.text.grounding import Grounding, popularity_factor
from mmgrid.paradigms.text.paradigm import Text

MOST = 2  # groundings that a process keeps: a pair of domains is evaluated in turns

_kept: dict[tuple[Path, Path | None], tuple[np.ndarray, Grounding]] = {}


def ground(paradigm: Paradigm, evaluation: Cell, job: Job, seen: Scene) -> None:
    """Give a text paradigm what it needs to be asked as `evaluation` says."""
    if not isinstance(paradigm, Text):
        return
    paradigm.seed = evaluation.recipe["seed"]

    def folder(role: str) -> Path | None:
        cell = evaluation.upstream.get(role)
        return None if cell is None else job.store.folder(cell.address)

    titles, backbone = folder("asks:titles"), folder("asks:embedder")
    if titles is not None:
        paradigm.grounding = _grounding(titles, backbone, seen, lambda: embedder(job, backbone))
    corpus = folder("corpus")
    if paradigm.recipe.popularity_gamma and corpus is not None:
        paradigm.popularity = _popularity(paradigm, corpus, job, seen)
    if paradigm.recipe.masked == "others" and corpus is not None:
        # The official code takes the histories of the first test users there are, whichever were sampled.
        everyone = scene_of(corpus, job.calendar, {**evaluation.recipe, "max_users": None})
        paradigm.others = everyone.tested.histories.take(range(len(seen.tested)))


def _grounding(titles: Path, backbone: Path | None, seen: Scene, embed: Callable[[], Callable]) -> Grounding:
    key = titles, backbone
    if key not in _kept or _kept[key][0] is not seen.items.candidates:
        while len(_kept) >= MOST:
            _kept.pop(next(iter(_kept)))
        made = Grounding.centred(np.load(titles / VECTORS_FILE), embed(), seen.items.candidates)
        _kept[key] = seen.items.candidates, made
    return _kept[key][1]


def _popularity(paradigm: Text, corpus: Path, job: Job, seen: Scene) -> np.ndarray:
    """Of what is known when users are asked, as the histories are: one for all models that are compared."""
    end = job.calendar.t1 if job.grid.spec.evaluation.target == "phase2" else job.calendar.t2
    known, recipe = Corpus.load(corpus, until=end), paradigm.recipe
    return popularity_factor(
        known.timestamps,
        known.items,
        len(seen.items),
        end,
        half_life_days=recipe.popularity_half_life_days,
        gamma=recipe.popularity_gamma,
        without=0.0 if recipe.without_popularity == "left_out" else 1.0,
    )
