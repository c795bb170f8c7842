"""The merges of `[[merges]]` in their general form, as models that are evaluated.

A merge is planned for each domain that it serves (see `planned_merge`). Merges that are the same whatever domain they
serve share their kept cell.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.chains import Chains
from mmgrid.grid.cells.evaluations import Model, evaluation
from mmgrid.grid.cells.merges import draw_name, refusal_of
from mmgrid.grid.cells.planned_merge import PlannedMerge, bases_of, takes_own
from mmgrid.grid.file.load import GridError
from mmgrid.grid.file.merges import (
    HISTORICAL,
    LAYERS,
    OTHERS,
    OWN,
    PHASES,
    Merge,
    place_of,
    written_out,
)
from mmgrid.paradigms import PARADIGMS


class GeneralMerges:
    """The named merges of a grid for one seed."""

    def __init__(self, chains: Chains):
        self.chains = chains
        self.sources = chains.sources
        self.domains: Sequence[str] = chains.spec.data.domains

    @cached_property
    def named(self) -> dict[str, Merge]:
        """Name → merge, for all entries that are no pairs of domains; short forms are written out."""
        found: dict[str, Merge] = {}
        for merge in self._written_out:
            if merge is not None and merge.name in found:
                raise self.wrong(merge, "name", "another merge has the same name; choose another one")
            found |= {merge.name: merge} if merge else {}
        return found

    @cached_property
    def _written_out(self) -> list[Merge | None]:
        """The merge of each entry; None for an entry of pairs of domains."""
        return [written_out(one, self.chains.phases, self.domains) for one in self.chains.spec.merges]

    def cells(self, number: int) -> list[Cell]:
        """The cells of one entry of `[[merges]]`."""
        merge = self._written_out[number]
        assert merge is not None  # pairs of domains are planned by `Merges`
        cells: list[Cell] = []
        for paradigm in self.paradigms(merge):
            for domain in self.served(merge):
                for draw in range(merge.draws):
                    model = self.model(paradigm, merge, domain, draw)
                    self._check_numbers(merge, domain, model.recipe["merge"])
                    cells += [model.upstream["model"]] if merge.keep else []
                    cells.append(evaluation(self.sources, model, domain))
        return cells

    def served(self, merge: Merge) -> list[str]:
        """The domains that a merge is evaluated on: as it says, else those of its sources, else all."""
        if merge.evaluate_on:
            return list(merge.evaluate_on)
        named = self._domains_of(merge) - {""}
        return [domain for domain in self.domains if domain in named or not named]

    def paradigms(self, merge: Merge) -> list[str]:
        """The paradigms whose models are merged: as it says, else all that can be.

        Raises:
            GridError: it names one that cannot be, or none can be.
        """
        trained = [name for name in self.chains.checkpoints if not PARADIGMS[name].in_one_go]
        reasons = {name: self._unfit(name, merge) for name in merge.paradigms or trained}
        for reason in reasons.values():
            if reason and merge.paradigms:
                raise self.wrong(merge, *reason)
        found = [name for name, reason in reasons.items() if not reason]
        if not found:
            raise self.wrong(merge, *next(iter(reasons.values()), None) or ("paradigms", "the grid has none to merge"))
        return found

    def check(self, paradigm: str, merge: Merge) -> None:
        """Check that a merge can be made of this paradigm's models; GridError if not."""
        if reason := self._unfit(paradigm, merge):
            raise self.wrong(merge, *reason)

    def model(self, paradigm: str, merge: Merge, domain: str, draw: int = 0) -> Model:
        """A merge as it serves a domain.

        draw: which of several draws of its random masks; the first, 0, has the grid's seed.
        """
        planned = PlannedMerge.of(self, paradigm, merge, domain, draw)
        name = draw_name(merge.name, draw)
        kept = {"model": self._kept(planned, name)} if merge.keep else {}
        return Model(paradigm, name, {**planned.upstream, **kept}, {"merge": planned.recipe})

    def kept(self, paradigm: str, merge: Merge, domain: str) -> Cell:
        """The cell in which a merge is stored as it serves a domain, with its first masks."""
        return self._kept(PlannedMerge.of(self, paradigm, merge, domain), merge.name)

    def _kept(self, planned: PlannedMerge, name: str) -> Cell:
        merge = planned.merge
        # A model that only the evaluation reads is no part of what is stored.
        used = {role: cell for role, cell in planned.upstream.items() if role != OWN or takes_own(merge)}
        return Cell("merge", (planned.paradigm, name, *planned.whose, *self.sources.suffix), planned.recipe, used)

    def per_domain(self, merge: Merge) -> bool:
        """Whether a merge differs by the domain that it serves."""
        if takes_own(merge) or any(word in PHASES for word in merge.sources or ()):
            return True
        if any({OWN, OTHERS} & (one.weights or {}).keys() for one in (merge, *merge.all_settings.values())):
            return True
        return any(
            word in (HISTORICAL, *PHASES) or (word in self.named and self.per_domain(self.named[word]))
            for word in bases_of(merge)
        )

    def start_of(self, merge: Merge, key: str, name: str) -> Merge:
        """The merge `name`, from which another one starts. GridError if merges start from each other."""
        if circle := self._circle([merge.name, name]):
            raise self.wrong(merge, key, f"{', '.join(circle)} start from each other")
        return self.named[name]

    def _circle(self, path: Sequence[str]) -> Sequence[str]:
        """The merges of a circle to which the bases of the last merge of a path lead; none if they lead to none."""
        for word in bases_of(self.named[path[-1]]):
            if word in path:
                return path[path.index(word) :]
            if word in self.named and (found := self._circle([*path, word])):
                return found
        return ()

    def _check_numbers(self, merge: Merge, domain: str, recipe: Mapping[str, Any]) -> None:
        """Check what methods refuse whatever the models are; GridError that names the place and the served domain."""
        places = dict(zip(merge.all_settings, recipe["rules"], strict=True))
        for place, settings in {"": recipe, **places}.items():
            if (problem := refusal_of(settings, learned="learn" in recipe)) is not None:
                served = f" (as it serves {domain})" if self.per_domain(merge) else ""
                raise self.wrong(merge, place, problem + served)

    def wrong(self, merge: Merge, key: str, problem: str) -> GridError:
        """An error that names the file, the merge and the key."""
        number = next(number for number, one in enumerate(self._written_out) if one and one.name == merge.name)
        return GridError(f"{self.sources.grid.file}: {place_of(number, merge.name, key)}: {problem}")

    def _unfit(self, paradigm: str, merge: Merge) -> tuple[str, str] | None:
        """Key and reason why a merge cannot be made of this paradigm's models; None if it can."""
        spec = PARADIGMS[paradigm]
        places = [found["tower"] for place in merge.layers if (found := LAYERS.fullmatch(place)) and found["tower"]]
        lacking = sorted({*merge.towers, *places} - spec.towers.keys())
        if lacking:
            has = f"it has {' and '.join(spec.towers)}" if spec.towers else "it has none"
            return "towers" if set(
                lacking
            ) & merge.towers.keys() else "layers", f"{paradigm} has no tower {', '.join(lacking)}; {has}"
        across = self._domains_of(merge)
        if len(across) > 1 and not spec.from_backbone:
            return "paradigms", f"{paradigm} has no base Θ⁽⁰⁾ and cannot be merged across domains"
        outside = sorted(set(self.served(merge)) - across)
        if outside and "" not in across and spec.own_token_rows:
            return (
                "evaluate_on",
                f"{paradigm} reads each domain's own token rows, so {', '.join(outside)} must be among the sources",
            )
        return None

    def _domains_of(self, merge: Merge) -> set[str]:
        """The domains of a merge's sources; "" is the domain that is served."""
        words = merge.sources or self.domains
        return {"" if word in PHASES else word.partition("/")[0] for word in words}
