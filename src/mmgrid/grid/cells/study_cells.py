"""The cells of a grid's studies, and `PlannedStudyGrid`, through which a study requests the cells that it reads."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.chains import IN_ONE_GO, Chains
from mmgrid.grid.cells.evaluations import BASELINE, Model, evaluation
from mmgrid.grid.cells.merges import Merges, draw_name, drawn_by, resolved
from mmgrid.grid.file.load import GridError
from mmgrid.merging.errors import MergeError
from mmgrid.paradigms import PARADIGMS
from mmgrid.studies import StudySpec
from mmgrid.studies.contract import BACKBONE, replaced
from mmgrid.studies.registry import STUDIES

# The kinds of lines between models, as the recipes of evaluations name them.
BETWEEN_PHASES, OVER_BASE = "temporal", "base_model"
SUBSPACE = {"method": "ties", "options": {"preset": "subspace"}}  # DARE, then TIES, as in the paper


def study_cells(chains: Chains) -> list[Cell]:
    """All cells of the grid's studies; the evaluations that a study reads come before it."""
    return [cell for number in range(len(chains.spec.studies)) for cell in _cells(chains, number)]


def _cells(chains: Chains, number: int) -> Iterator[Cell]:
    spec = chains.spec.studies[number]
    study = STUDIES[spec.kind]
    for paradigm in spec.paradigms or study.paradigms(list(chains.checkpoints), list(chains.bases)):
        planned = PlannedStudyGrid(chains, spec, number, paradigm)
        needs = study.needs(spec, planned)
        if needs is None:
            if spec.domains and len(spec.domains) == 1:
                raise planned.wrong(f"domains: there is nothing to compare in {spec.domains[0]} alone; add another")
            continue
        upstream = planned.by_name(needs)
        recipe = {"study": study.name, "paradigm": paradigm, "seed": chains.sources.seed, **study.values(spec)}
        key = (study.name, paradigm, *chains.sources.suffix)
        yield from upstream.values()
        yield Cell("study", key, recipe, upstream, version=study.version, needs=needs)


class PlannedStudyGrid:
    """The `StudyGrid` of one entry of `[[studies]]` and one paradigm."""

    def __init__(self, chains: Chains, spec: StudySpec, number: int, paradigm: str):
        self._chains = chains
        self._sources = chains.sources
        self._merges = Merges(chains)
        self._spec: Any = spec
        self._number = number
        self.paradigm = paradigm
        self.seed = chains.sources.seed
        self.phases: Sequence[str] = chains.phases
        self.domains: Sequence[str] = tuple(spec.domains or chains.spec.data.domains)

    # ---- data and checkpoints --------------------------------------------------------------------------------

    def corpus(self, domain: str) -> Cell:
        if domain not in self._sources.corpora:
            raise self.wrong(f"{domain} is no domain of the grid; it has {', '.join(self._sources.corpora)}")
        return self._sources.corpora[domain]

    def item_vectors(self, domain: str) -> Cell | None:
        return self._sources.item_vectors(domain, "items") if self._sources.backbone else None

    def base(self) -> Cell:
        if self.paradigm not in self._chains.bases:
            remedy = f"it needs [backbone] and [paradigms.{self.paradigm}]"
            if not PARADIGMS[self.paradigm].from_backbone:
                remedy = "it starts from no backbone, so leave it out of `paradigms`"
            raise self.wrong(f"{self.paradigm} has no base Θ⁽⁰⁾; {remedy}")
        return self._chains.bases[self.paradigm]

    def checkpoint(self, domain: str, phase: str) -> Cell:
        chain = self._chains.checkpoints[self.paradigm].get(domain, {})
        if phase not in chain:
            raise self.wrong(
                f"{self.paradigm} has no checkpoint of {domain} at {phase}; add one under [[checkpoints]], or limit the "
                "study to other domains or paradigms (domains = […], paradigms = […])"
            )
        return chain[phase]

    # ---- evaluations -------------------------------------------------------------------------------------------

    def evaluation(self, domain: str, phase: str, max_users: int | None = None) -> Cell:
        model = Model(self.paradigm, phase, {"model": self.checkpoint(domain, phase)})
        return evaluation(self._sources, model, domain, max_users)

    def references(self, domain: str, max_users: int | None = None) -> dict[str, Cell]:
        models = {"popularity": Model(BASELINE, "popularity")}
        for paradigm, by_domain in self._chains.checkpoints.items():
            known = by_domain.get(domain, {})
            for phase in (self.phases[-1], IN_ONE_GO) if PARADIGMS[paradigm].in_one_go else ():
                if phase in known:
                    label = f"{paradigm} (in one go)" if phase == IN_ONE_GO else paradigm
                    models[label] = Model(paradigm, phase, {"model": known[phase]})
        return {label: evaluation(self._sources, model, domain, max_users) for label, model in models.items()}

    def pair(
        self,
        domain: str,
        partner: str,
        method: str,
        called: str,
        options: Mapping[str, Any],
        max_users: int | None,
        draw: int = 0,
    ) -> Cell:
        return self.together(domain, (domain, partner), method, called, options, max_users, draw)

    def together(
        self,
        domain: str,
        domains: Sequence[str],
        method: str,
        called: str,
        options: Mapping[str, Any],
        max_users: int | None,
        draw: int = 0,
    ) -> Cell:
        self.base()  # models without one cannot be merged across domains
        weights = dict.fromkeys(domains, 1 / len(domains))
        model = self._merges.pair(self.paradigm, method, called, weights, resolved(method, options), draw=draw)
        return evaluation(self._sources, model, domain, max_users)

    def evaluate_merge(
        self,
        domain: str,
        name: str,
        method: str,
        sources: Mapping[str, Cell],
        *,
        weights: Mapping[str, float] | None = None,
        base: Cell | None = None,
        scale: float = 1.0,
        options: Mapping[str, Any] | None = None,
        max_users: int | None = None,
        draw: int = 0,
    ) -> Cell:
        if not any(cell.key[1] == domain for cell in sources.values()):
            raise self.wrong(
                f"the merge {name} is evaluated on {domain}, but none of its sources is a model of {domain}"
            )
        from mmgrid.merging import get_method  # not every plan needs the methods

        try:
            filled = resolved(method, options or {})
        except MergeError as error:
            raise self.wrong(f"the merge {name}: {error}") from None
        declared, names = get_method(method), sorted(sources)
        if declared.base == "required" and base is None:
            raise self.wrong(f"the merge {name}: {method} needs a base, the model that its sources were trained from")
        given = dict(zip(names, declared.weights(names, weights or {}, options or {}), strict=True))
        below = None if declared.base == "none" else base
        model = self._merges.merge(self.paradigm, name, method, sources, given, filled, scale, base=below, draw=draw)
        return evaluation(self._sources, model, domain, max_users)

    def between_phases(self, domain: str, scale: float, max_users: int | None = None) -> Cell:
        old, new = self.phases[-2:]
        ends = {"start": self.checkpoint(domain, old), "end": self.checkpoint(domain, new)}
        line = {"kind": BETWEEN_PHASES, "at": scale}
        family = f"{self.paradigm}/{domain}/temporal/{self.seed}"
        model = Model(self.paradigm, f"temporal={scale:.9g}", ends, {"line": line}, family)
        return evaluation(self._sources, model, domain, max_users)

    def over_base(
        self,
        domain: str,
        first: str,
        second: str,
        base: str,
        alpha: float,
        max_users: int | None = None,
        draw: int = 0,
    ) -> Cell:
        kind, _, owner = base.partition(": ")
        line = {
            "kind": OVER_BASE,
            "base": base,
            "first": first,
            "second": second,
            "at": alpha,
            "seed": drawn_by(self.seed, draw),
            "method": SUBSPACE["method"],
            "options": self._subspace,
        }
        family = draw_name(f"{self.paradigm}/{first}+{second}/{base}/{self.seed}", draw)
        if PARADIGMS[self.paradigm].own_token_rows:  # then each domain has its own line
            family += f" {domain}"
        share = f"{alpha:.9g}-{first}+{round(1 - alpha, 9):.9g}-{second}"
        upstream = {f"source:{one}": self.checkpoint(one, self.phases[-1]) for one in (first, second)}
        if base == BACKBONE:
            upstream["base"] = self.base()
        else:
            owners = [owner] if owner else [first, second]
            upstream |= {f"base:{one}": self.checkpoint(one, self.phases[-2]) for one in owners}
        name = draw_name(f"subspace-{owner or kind}={share}", draw)
        model = Model(self.paradigm, name, upstream, {"line": line}, family)
        return evaluation(self._sources, model, domain, max_users)

    # ---- the grid file -----------------------------------------------------------------------------------------

    def beside(self, paradigm: str) -> "PlannedStudyGrid | None":
        known = paradigm in self._chains.checkpoints
        return PlannedStudyGrid(self._chains, self._spec, self._number, paradigm) if known else None

    def spec_of(self, study: str) -> Any:
        named = (spec for spec in self._chains.spec.studies if spec.kind == study)
        return next((spec for spec in named if self.paradigm in (spec.paradigms or (self.paradigm,))), None)

    def wrong(self, problem: str) -> GridError:
        place = f"studies[{self._number}] ({self._spec.kind})"
        return GridError(f"{self._sources.grid.file}: {place}: {problem}")

    def by_name(self, needs: Any) -> dict[str, Cell]:
        """The needed cells by name, each once even if several parts of the study need it."""
        found: dict[str, Cell] = {}

        def note(cell: Cell) -> Cell:
            if found.setdefault(cell.name, cell) != cell:
                raise self.wrong(
                    f"two different cells are called {cell.name}; are points too close, or domain names too similar?"
                )
            return cell

        replaced(needs, Cell, note)
        return found

    @cached_property
    def _subspace(self) -> dict[str, Any]:
        return resolved(SUBSPACE["method"], SUBSPACE["options"])  # type: ignore[arg-type]
