"""Searches the numbers of one merge of a grid: tried on one half of the test users, judged on the other.

A merge is made in memory and evaluated on every domain that it serves, with the grid's own protocol, but on half of its
users. The other half is read once, when the search has ended, for the trials of the Pareto front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from mmgrid.data.held_out import HeldOut, HeldOutUsers
from mmgrid.data.sampling import nested_order
from mmgrid.evaluation import bootstrap_interval
from mmgrid.evaluation.metrics import parse_metric
from mmgrid.files import DigestCache
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.chains import Chains
from mmgrid.grid.cells.evaluations import Model, evaluation
from mmgrid.grid.cells.fingerprint import fingerprint
from mmgrid.grid.cells.general_merges import GeneralMerges
from mmgrid.grid.cells.merges import refusal_of
from mmgrid.grid.cells.sources import Sources
from mmgrid.grid.file.merges import Merge
from mmgrid.grid.search.errors import SearchError
from mmgrid.grid.search.front import best, front
from mmgrid.grid.search.proposals import propose
from mmgrid.grid.search.ranges import Range, changed, read
from mmgrid.grid.search.trials import Trial, TrialLog
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.merging import MergeRecipe
from mmgrid.merging.errors import nearest, problem_of
from mmgrid.store.address import SHORT_DIGITS
from mmgrid.store.lock import Lock, try_lock
from mmgrid.store.places import DIGESTS_FILE, SEARCHES_FOLDER, lock_of

PERCENT = 100.0
Half = Literal["choosing", "judging"]
Progress = Callable[[Trial, int], None]


@dataclass(frozen=True)
class Outcome:
    """A model on the judging half of a domain's users, in percent, with a 95 % interval; `kept` is its share of the
    domain's own model, in percent."""

    value: float
    low: float
    high: float
    kept: float


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        trials: all of them.
        front: the trials that no other one beats on the choosing half.
        best: the one of the front with the largest least share kept.
        own: domain → the metric of its own model on the choosing half.
        judged: trial's number → domain → outcome, for the trials of the front; -1 stands for the domains' own models.
        folder: of the trials.
    """

    trials: Sequence[Trial]
    front: Sequence[Trial]
    best: Trial
    own: Mapping[str, float]
    judged: Mapping[int, Mapping[str, Outcome]]
    folder: Path


class MergeSearch:
    """A search over the numbers of one merge."""

    def __init__(
        self,
        session: GridStore,
        name: str,
        ranges: Sequence[Range],
        *,
        paradigm: str | None = None,
        metric: str = "ndcg@10",
        seed: int = 0,
    ) -> None:
        """Args:
            session: the grid and its store, in which the merge's sources are built.
            name: of an entry of `[[merges]]`.
            ranges: what is searched.
            paradigm: whose models are merged; may be left out if there is only one.
            metric: that is maximised, such as `ndcg@10`.
            seed: of the halves and of the proposals.

        Raises:
            SearchError: there is no such merge, or a range does not fit it.
            GridError: a merge with the least or the largest values is none.
        """
        if not ranges:
            raise SearchError("nothing to search: give a range, e.g. --over scale=0.2..1.5")
        self.session = session
        self.ranges = tuple(sorted(ranges, key=lambda one: one.key))  # in whichever order they were given
        for one, after in pairwise(self.ranges):
            if one.key == after.key:
                raise SearchError(f"{one.key}: has two ranges; give one")
        self.metric = parse_metric(metric)
        self.seed = seed
        digests = DigestCache(session.store.root / DIGESTS_FILE)
        self.chains = Chains(Sources(session.grid, digests.sha256, session.grid.spec.all_seeds[0]))
        self.general = GeneralMerges(self.chains)
        self.merge = self._merge(name)
        self.paradigm = self._paradigm(paradigm)
        self.domains = self.general.served(self.merge)
        self.entry = self.merge.model_dump(exclude={"kind"}) | {"keep": False}
        for value in ("low", "high"):  # a range that does not fit is an error before anything is computed
            self.cells({one.key: one.value(getattr(one, value)) for one in self.ranges})

    # ---- planning ------------------------------------------------------------------------------------------------

    def cells(self, values: Mapping[str, float]) -> dict[str, list[Cell]]:
        """Domain → the evaluations of the merge with these numbers, one for each draw; they are not built."""
        try:
            merge = Merge.model_validate(changed(self.entry, values))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            hint = nearest(place, Merge.model_fields) if first["type"] == "extra_forbidden" else ""
            raise SearchError(f"{self.merge.name}: {place}: {problem_of(first)}{hint}") from None
        self.general.check(self.paradigm, merge)
        sources = self.chains.sources
        return {
            domain: [
                evaluation(sources, self.general.model(self.paradigm, merge, domain, draw), domain)
                for draw in range(merge.draws)
            ]
            for domain in self.domains
        }

    @cached_property
    def own_cells(self) -> dict[str, list[Cell]]:
        """Domain → the evaluation of its own newest model."""
        newest = self.chains.phases[-1]
        checkpoints = self.chains.checkpoints[self.paradigm]
        sources = self.chains.sources
        return {
            domain: [evaluation(sources, Model(self.paradigm, newest, {"model": checkpoints[domain][newest]}), domain)]
            for domain in self.domains
        }

    @cached_property
    def folder(self) -> Path:
        """The folder of the trials: it depends on everything but the searched numbers that the grid file has now."""
        middle = {one.key: one.value(one.low) for one in self.ranges}
        cells = [cell for own in (*self.cells(middle).values(), *self.own_cells.values()) for cell in own]
        about = {
            "merges": [cell.fingerprint for cell in cells],
            "ranges": [[one.key, one.low, one.high, one.log, one.whole] for one in self.ranges],
            "metric": self.metric.name,
            "seed": self.seed,
        }
        digits = fingerprint(about)[:SHORT_DIGITS]
        return self.session.store.root / SEARCHES_FOLDER / self.paradigm / self.merge.name / digits

    # ---- running -------------------------------------------------------------------------------------------------

    def run(self, number: int, progress: Progress | None = None) -> Found:
        """Try until there are `number` trials in all, earlier ones of the same search among them; then judge the front.

        Args:
            progress: called after each new trial with it and `number`.

        Raises:
            SearchError: a source is not built, Optuna is missing, or another process is searching here, or has gone on
                where this one was suspended.
        """
        self._check_built()
        with self._lock() as lock:
            log = TrialLog(self.folder, self._about(), [one.key for one in self.ranges], self.domains)
            while len(log.trials) < number:
                values = self._next(log.trials)
                problem = self.problem(values)
                quality = {} if problem else self.quality(values)
                if not lock.held():
                    raise SearchError(
                        f"{self.folder}: another process goes on with this search, since this one was suspended or cut off "
                        "from the store; its trials are kept"
                    )
                trial = log.add(values, quality, problem)
                if progress is not None:
                    progress(trial, number)
            trials = list(log.trials)
        if not trials:
            raise SearchError("there are no trials yet; ask for at least one (--trials)")
        chosen = front(trials)
        if not chosen:
            raise SearchError(
                f"{self.merge.name}: none of {len(trials)} trials is a merge; the first: {trials[0].problem} (with "
                f"{', '.join(f'{key} = {value:g}' for key, value in trials[0].values.items())}); give other ranges"
            )
        own = {domain: self._value(cells, "choosing") for domain, cells in self.own_cells.items()}
        return Found(trials, chosen, best(chosen, own), own, self._judged(chosen), self.folder)

    def problem(self, values: Mapping[str, float]) -> str:
        """Why there is no merge with these numbers, such as weights that add up to zero; empty if nothing is known."""
        merges = [cell.recipe["merge"] for cells in self.cells(values).values() for cell in cells]
        found = (refusal_of(settings) for merge in merges for settings in (merge, *merge["rules"]))
        return next((problem for problem in found if problem), "")

    def quality(self, values: Mapping[str, float]) -> dict[str, float]:
        """Domain → the metric of the merge with these numbers on the choosing half, in percent."""
        return {domain: self._value(cells, "choosing") for domain, cells in self.cells(values).items()}

    def _next(self, trials: Sequence[Trial]) -> dict[str, float]:
        """The numbers of the grid file first, if it has all of them, within the ranges; then what Optuna proposes."""
        if not trials:
            now = {one.key: read(self.entry, one.key) for one in self.ranges}
            if all(now[one.key] is not None and one.low <= now[one.key] <= one.high for one in self.ranges):  # type: ignore[operator]
                return {one.key: one.value(float(now[one.key])) for one in self.ranges}  # type: ignore[arg-type]
        return propose(self.ranges, trials, self.domains, self.seed)

    def _judged(self, trials: Sequence[Trial]) -> dict[int, dict[str, Outcome]]:
        """The judging half, read for the first time."""
        own = {domain: self._per_user(cells, "judging") for domain, cells in self.own_cells.items()}

        def outcome(values: np.ndarray, domain: str) -> Outcome:
            interval = bootstrap_interval(values, seed=self.seed)
            value, low, high = (float(part[0]) for part in (interval.value, interval.low, interval.high))
            reference = float(own[domain].mean())
            kept = value / reference if reference > 0 else 1.0
            return Outcome(PERCENT * value, PERCENT * low, PERCENT * high, PERCENT * kept)

        found = {-1: {domain: outcome(values, domain) for domain, values in own.items()}}
        for trial in trials:
            cells = self.cells(trial.values)
            found[trial.number] = {
                domain: outcome(self._per_user(own_cells, "judging"), domain) for domain, own_cells in cells.items()
            }
        return found

    def _value(self, cells: Sequence[Cell], half: Half) -> float:
        return PERCENT * float(self._per_user(cells, half).mean())

    def _per_user(self, cells: Sequence[Cell], half: Half) -> np.ndarray:
        """The metric of each user of a half, the mean over the draws: float64 [users]."""
        return np.mean([self.metric(self._ranks(cell, half)) for cell in cells], axis=0)

    def _ranks(self, cell: Cell, half: Half) -> np.ndarray:
        """The ranks of a half of the users under the model of an evaluation."""
        import torch

        from mmgrid.grid.builders import evaluation as builder
        from mmgrid.grid.builders.models import evaluated_model
        from mmgrid.paradigms.recommender import ranks_of

        torch.set_num_threads(self.session.grid.spec.threads_per_cell)  # bits differ between one thread and two
        folders = {role: self.session.store.folder(above.address) for role, above in cell.upstream.items()}
        known = builder.known_users(folders["corpus"], self.session.grid.spec.phases.calendar(), cell.recipe)
        paradigm, model = evaluated_model(cell.recipe, folders)
        part = half_of(known, half, self.seed)
        paradigm.prepare(part, builder.needs_of(folders, self.session.grid), cell.recipe["seed"])
        return ranks_of(paradigm, model, part)

    def recipes(self, values: Mapping[str, float]) -> dict[str, MergeRecipe]:
        """Name of a file → the merge with these numbers as a recipe of `mmgrid merge`: one, or one for each domain."""
        cells = self.cells(values)
        found = {domain: self._recipe(own[0]) for domain, own in cells.items()}
        first = next(iter(found.values()))
        if all(recipe == first for recipe in found.values()):
            return {"": first}
        return found

    def _recipe(self, cell: Cell) -> MergeRecipe:
        from mmgrid.grid.builders.merge import recipe_of_folders

        folders = {role: self.session.store.folder(above.address) for role, above in cell.upstream.items()}
        return MergeRecipe.load(recipe_of_folders(cell.recipe["merge"], folders)).anchored()

    # ---- checks --------------------------------------------------------------------------------------------------

    def _merge(self, name: str) -> Merge:
        if name not in self.general.named:
            import difflib

            known = ", ".join(self.general.named) or "none; a merge of [[merges]] needs a name"
            near = difflib.get_close_matches(name, self.general.named, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SearchError(f"{self.session.grid.file}: there is no merge called {name}{hint} (known: {known})")
        merge = self.general.named[name]
        if merge.learn is not None:
            raise SearchError(
                f"{name}: its numbers are learned by {merge.learn['by']}; search a merge without `learn`, or change the "
                "settings of its learner"
            )
        return merge

    def _paradigm(self, given: str | None) -> str:
        known = self.general.paradigms(self.merge)
        if given is None and len(known) == 1:
            return known[0]
        if given not in known:
            what = f"{given} is not merged by" if given else "name the paradigm (--paradigm) of"
            raise SearchError(f"{what} {self.merge.name}: it is one of {', '.join(known)}")
        return str(given)

    def _check_built(self) -> None:
        cells = self.cells({one.key: one.value(one.low) for one in self.ranges})
        needed = {
            above
            for own in (*cells.values(), *self.own_cells.values())
            for cell in own
            for above in cell.upstream.values()
        }
        missing = sorted(cell.name for cell in needed if not self.session.store.has(cell.address))
        if missing:
            only = " ".join(f"--only '{name}'" for name in missing)
            raise SearchError(
                f"{', '.join(missing)}: not built in {self.session.store.root}; build it first: mmgrid run "
                f"{self.session.grid.file} {only}"
            )

    def _lock(self) -> Lock:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = try_lock(lock_of(self.folder))
        if lock is None:
            raise SearchError(
                f"{self.folder}: another process is searching here; wait for it, or choose another --seed"
            )
        return lock

    def _about(self) -> dict[str, Any]:
        return {
            "merge": self.merge.name,
            "paradigm": self.paradigm,
            "domains": self.domains,
            "metric": self.metric.name,
            "seed": self.seed,
            "ranges": [f"{one.key}={one.low:g}..{one.high:g}" for one in self.ranges],
        }


def half_of(known: HeldOut, half: Half, seed: int) -> HeldOut:
    """The same knowledge with half of the users: those that choose, or those that judge.

    A user's half depends on the id and the seed alone. Raises SearchError if a half would be empty.
    """
    users = known.users
    order = nested_order(users.user_ids, seed, "halves of a search")
    middle = -(-len(order) // 2)
    chosen = np.sort(order[:middle] if half == "choosing" else order[middle:])
    if not len(chosen):
        raise SearchError(f"{known.corpus.name}: has {len(users)} test users, too few for two halves")
    part = HeldOutUsers(
        users.histories.take(chosen), users.targets[chosen], users.active[chosen], users.user_ids[chosen]
    )
    return replace(known, users=part)
