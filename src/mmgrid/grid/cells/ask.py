"""From the studies of a grid file to cells: the evaluations that each needs, and the study itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.expansion import Built, Expansion, Model
from mmgrid.grid.file.load import GridError
from mmgrid.grid.file.spec import CrossDomainMerges
from mmgrid.studies.base_model import BACKBONE, HISTORICAL, NEUTRAL
from mmgrid.studies.specs import (
    AdviseSpec,
    BaselinesSpec,
    BaseModelSpec,
    CrossDomainSpec,
    RecencySpec,
    StudySpec,
    TemporalKind,
    TemporalSpec,
    VectorsSpec,
    sweep_of,
)

SUBSPACE = {"method": "ties", "options": {"preset": "subspace"}}  # DARE, then TIES, as in the paper


def study_cells(expansion: Expansion, built: Built) -> list[Cell]:
    """All cells of the grid's studies, the evaluations before the studies that stand on them."""
    return [
        cell
        for number, study in enumerate(expansion.spec.studies)
        for cell in _StudyExpansion(expansion, built, study, number).cells()
    ]


@dataclass(frozen=True)
class _StudyExpansion:
    """The cells of one entry of `[[studies]]`."""

    expansion: Expansion
    built: Built
    study: StudySpec
    number: int

    def cells(self) -> list[Cell]:
        cells: list[Cell] = []
        for paradigm in self.study.paradigms or self._askable():
            parts = self._parts(paradigm)
            if not parts:
                continue
            suffix = self.expansion.suffix
            recipe = self._recipe(paradigm)
            upstream = self._by_name(parts)
            cells += [*upstream.values(), Cell("study", (self.study.kind, paradigm, *suffix), recipe, upstream)]
        return cells

    def _by_name(self, parts: list[Cell]) -> dict[str, Cell]:
        """Each cell once, though several parts of a study may need it."""
        found: dict[str, Cell] = {}
        for cell in parts:
            if found.setdefault(cell.name, cell) != cell:
                raise self._wrong(
                    f"two different cells are called {cell.name}; are points too close, or domains named alike?"
                )
        return found

    @property
    def domains(self) -> list[str]:
        return list(self.study.domains or self.expansion.spec.data.domains)

    def _askable(self) -> Iterable[str]:
        """The paradigms that the study can be asked of, where the grid file names none."""
        needs_base = isinstance(self.study, VectorsSpec | CrossDomainSpec | BaseModelSpec)
        if needs_base:
            return list(self.built.bases)
        if isinstance(self.study, BaselinesSpec):
            return list(self.built.chains)
        return [paradigm for paradigm in self.built.chains if paradigm != "sasrec"]

    def _recipe(self, paradigm: str) -> dict[str, Any]:
        recipe: dict[str, Any] = {"study": self.study.kind, "paradigm": paradigm, "seed": self.expansion.seed}
        if isinstance(self.study, TemporalSpec):
            recipe["groups"] = self.study.groups
        return recipe

    def _parts(self, paradigm: str) -> list[Cell]:
        """The cells that the study reads; none where it has nothing to ask of a paradigm."""
        study = self.study
        if isinstance(study, BaselinesSpec):
            return self._baselines(paradigm)
        if isinstance(study, VectorsSpec):
            return self._vectors(paradigm)
        if isinstance(study, CrossDomainSpec):
            return self._cross_domain(paradigm, study)
        if isinstance(study, BaseModelSpec):
            return self._base_model(paradigm, study)
        return self._temporal(paradigm, study)

    # ---- what they stand on --------------------------------------------------------------------------------

    def _wrong(self, problem: str) -> GridError:
        return GridError(f"{self.expansion.grid.file}: studies[{self.number}] ({self.study.kind}): {problem}")

    def _base(self, paradigm: str) -> Cell:
        if paradigm not in self.built.bases:
            raise self._wrong(f"{paradigm} has no base Θ⁽⁰⁾; it needs [backbone] and [paradigms.{paradigm}]")
        return self.built.bases[paradigm]

    def _checkpoint(self, paradigm: str, domain: str, phase: str) -> Cell:
        chain = self.built.chains[paradigm][domain]
        if phase not in chain:
            raise self._wrong(
                f"{paradigm} has no checkpoint of {domain} at {phase}; give one under [[checkpoints]], or ask the "
                "study of other domains or paradigms (domains = […], paradigms = […])"
            )
        return chain[phase]

    def _evaluated(self, paradigm: str, domain: str, phase: str) -> Cell:
        """The grid's own evaluation of a checkpoint: on all its users, of whom a study may take fewer."""
        model = Model(paradigm, phase, {"model": self._checkpoint(paradigm, domain, phase)})
        return self.expansion.evaluation(model, domain, self.built.corpora[domain])

    def _point(self, model: Model, domain: str) -> Cell:
        """The evaluation of a model on the study's users."""
        max_users = self.study.max_users
        if isinstance(self.study, TemporalKind):
            _, max_users = sweep_of(self.study, model.paradigm, self.expansion.spec.studies)
        return self.expansion.evaluation(model, domain, self.built.corpora[domain], max_users)

    @property
    def _old(self) -> str:
        return self.expansion.phases[-2]

    @property
    def _new(self) -> str:
        return self.expansion.phases[-1]

    # ---- study by study ------------------------------------------------------------------------------------

    def _baselines(self, paradigm: str) -> list[Cell]:
        parts = []
        for domain in self.domains:
            known = self.built.chains.get("sasrec", {}).get(domain, {})
            models = [
                Model(paradigm, self._new, {"model": self._checkpoint(paradigm, domain, self._new)}),
                Model("baseline", "popularity"),
                *(Model("sasrec", phase, {"model": known[phase]}) for phase in (self._new, "all") if phase in known),
            ]
            parts += [self._point(model, domain) for model in models]
        return parts

    def _vectors(self, paradigm: str) -> list[Cell]:
        base = self._base(paradigm)
        phases = self.expansion.phases
        return [base, *(self._checkpoint(paradigm, d, phase) for d in self.domains for phase in phases)]

    def _cross_domain(self, paradigm: str, study: CrossDomainSpec) -> list[Cell]:
        if len(self.domains) < 2:
            return []
        self._base(paradigm)
        parts = [self._evaluated(paradigm, domain, self._new) for domain in self.domains]
        parts += [self.built.corpora[domain] for domain in self.domains]
        if self.built.backbone:
            parts += [self.expansion.vectors(domain, "items") for domain in self.domains]
        for way in study.ways:
            called = "linear" if way == "weight" else way
            given = {"method": "linear", "options": {}} if way == "weight" else SUBSPACE
            merges = CrossDomainMerges(kind="cross_domain", weight=0.5, method=given["method"])
            merges = merges.model_copy(update={"options": _resolved(given)})
            for pair in combinations(sorted(self.domains), 2):
                for target in pair:
                    model = self.expansion.pair(merges, called, paradigm, pair, target, self.built)
                    parts.append(self._point(model, target))
        return parts

    def _base_model(self, paradigm: str, study: BaseModelSpec) -> list[Cell]:
        pairs = study.pairs or tuple(combinations(sorted(self.domains), 2))
        outside = sorted({domain for pair in pairs for domain in pair} - set(self.domains))
        if outside:
            raise self._wrong(f"pairs name {', '.join(outside)}, which `domains` leaves out")
        parts = [self._evaluated(paradigm, domain, self._new) for domain in dict.fromkeys(d for p in pairs for d in p)]
        for first, second in pairs:
            sources = {f"source:{domain}": self._checkpoint(paradigm, domain, self._new) for domain in (first, second)}
            old = {domain: self._checkpoint(paradigm, domain, self._old) for domain in (first, second)}
            bases: dict[str, dict[str, Cell]] = {}
            if "backbone" in study.bases:
                bases[BACKBONE] = {"base": self._base(paradigm)}
            if "historical" in study.bases:
                bases |= {f"{HISTORICAL}{domain}": {f"base:{domain}": old[domain]} for domain in (first, second)}
            if "neutral" in study.bases:
                bases[NEUTRAL] = {f"base:{domain}": cell for domain, cell in old.items()}
            for base, below in bases.items():
                for alpha in study.alphas.values():
                    called = base.removeprefix(HISTORICAL)
                    share = f"{alpha:.9g}-{first}+{round(1 - alpha, 9):.9g}-{second}"
                    line = {
                        "kind": "base_model",
                        "base": base,
                        "first": first,
                        "second": second,
                        "at": alpha,
                        "seed": self.expansion.seed,
                        "method": SUBSPACE["method"],
                        "options": _resolved(SUBSPACE),
                    }
                    for domain in (first, second):
                        family = f"{paradigm}/{first}+{second}/{base}/{self.expansion.seed}"
                        if paradigm == "semid":  # each domain keeps its own token rows, and so has a line of its own
                            family += f"/{domain}"
                        name = f"subspace-{called}={share}"
                        model = Model(paradigm, name, {**sources, **below}, {"line": line}, family)
                        parts.append(self._point(model, domain))
        return parts

    def _temporal(self, paradigm: str, study: TemporalKind) -> list[Cell]:
        parts: list[Cell] = []
        for domain in self.domains:
            ends = {
                role: self._checkpoint(paradigm, domain, p) for role, p in (("start", self._old), ("end", self._new))
            }
            parts += [self._evaluated(paradigm, domain, phase) for phase in (self._old, self._new)]  # λ = 0 and 1
            scales, _ = sweep_of(study, paradigm, self.expansion.spec.studies)
            for scale in scales.values():
                if scale in (0.0, 1.0):
                    continue
                family = f"{paradigm}/{domain}/temporal/{self.expansion.seed}"
                line = {"kind": "temporal", "at": scale}
                parts.append(
                    self._point(Model(paradigm, f"temporal={scale:.9g}", ends, {"line": line}, family), domain)
                )
            if isinstance(study, RecencySpec | AdviseSpec):
                parts.append(self.built.corpora[domain])
            if isinstance(study, AdviseSpec):
                parts += ends.values()
        return parts


def _resolved(given: dict[str, Any]) -> dict[str, Any]:
    """A method's options with its defaults filled in."""
    from mmgrid.merging import get_method  # numpy and pydantic models of all methods, which not every plan needs

    resolve: Callable[[dict[str, Any]], dict[str, Any]] = get_method(given["method"]).resolve
    return resolve(given["options"])
