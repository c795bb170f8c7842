"""From a grid to its cells: what there is to build, and from what.

Nothing is read here but the digests of raw files, so that planning costs nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from mmgrid.data import READERS
from mmgrid.grid.cell import Cell
from mmgrid.grid.fingerprint import recipe_values
from mmgrid.grid.load import Grid, GridError
from mmgrid.grid.spec import CrossDomainMerges, GridSpec, PretrainedBackbone, TinyBackbone
from mmgrid.paradigms import Recipe, model_values

BASELINES = ("popularity", "random")
TEXT_PARADIGMS = ("semb",)  # paradigms that start from the backbone, by way of a base Θ⁽⁰⁾
TRAINED = {"test": ("pretrain", "phase1", "phase2"), "phase2": ("pretrain", "phase1")}  # by what is to be ranked
IN_ONE_GO = ("sasrec",)  # paradigms that are also trained once on everything before the target

Digest = Callable[[Path], str]


@dataclass(frozen=True)
class Model:
    """A model that is evaluated: a trained checkpoint, or a merge of several."""

    paradigm: str
    name: str
    cell: Cell | None  # the checkpoint, or the merge where it is kept
    sources: Mapping[str, Cell]  # of a merge, by domain
    base: Cell | None = None
    recipe: Mapping[str, Any] | None = None  # of a merge


def expand(grid: Grid, digest: Digest) -> list[Cell]:
    """All cells of the grid, what is built first coming first.  `digest(path)` gives a raw file's SHA-256."""
    cells = [cell for seed in grid.spec.all_seeds for cell in _Expansion(grid, digest, seed).cells()]
    cells = list(dict.fromkeys(cells))  # corpora belong to all seeds
    names = Counter(cell.name for cell in cells)
    for name, count in names.items():
        if count > 1:  # then nobody could tell their results apart
            raise GridError(f"{grid.file}: merges: {count} different ones are called {name}; leave one out")
    return cells


class _Expansion:
    """The cells of one seed."""

    def __init__(self, grid: Grid, digest: Digest, seed: int):
        self.grid = grid
        self.spec: GridSpec = grid.spec
        self.digest = digest
        self.seed = seed
        self.suffix = (f"seed={seed}",) if len(self.spec.all_seeds) > 1 else ()
        self.phases = TRAINED[self.spec.evaluation.target]

    def cells(self) -> list[Cell]:
        corpora = {domain: self._corpus(domain) for domain in self.spec.data.domains}
        cells: list[Cell] = [*corpora.values()]
        bases: dict[str, Cell] = {}
        if any(paradigm in TEXT_PARADIGMS for paradigm in self.spec.paradigms):
            backbone = self._backbone(corpora)
            bases = {p: self._base(p, backbone) for p in self.spec.paradigms if p in TEXT_PARADIGMS}
            cells += [backbone, *bases.values()]
        newest: dict[tuple[str, str], Cell] = {}
        for paradigm in self.spec.paradigms:
            for domain, corpus in corpora.items():
                chain = self._chain(paradigm, domain, corpus, bases.get(paradigm))
                newest[paradigm, domain] = chain[self.phases[-1]]
                for phase, checkpoint in chain.items():
                    model = Model(paradigm, phase, checkpoint, {})
                    cells += [checkpoint, self._evaluation(model, domain, corpus)]
        for domain, corpus in corpora.items():
            cells += [self._evaluation(Model("baseline", name, None, {}), domain, corpus) for name in BASELINES]
        for number, merges in enumerate(self.spec.merges):
            merges = merges.model_copy(update={"options": self._options(merges, number)})
            cells += self._cross_domain(merges, corpora, newest, bases)
        return list(dict.fromkeys(cells))

    def _corpus(self, domain: str) -> Cell:
        data = self.spec.data
        recipe: dict[str, Any] = {
            "format": data.format,
            "domain": domain,
            "phases": self.spec.phases.calendar().as_dates(),
            "min_interactions": data.min_interactions,
            "max_users": data.max_users,
            "compat": data.compat,
        }
        if data.max_users is not None:
            recipe["seed"] = self.spec.all_seeds[0]  # the sample stays the same over all seeds
        if data.format == "synthetic":
            recipe["world"] = self.spec.world.domain(domain).parameters() | {"seed": self.spec.all_seeds[0]}
        else:
            sources = READERS[data.format].sources(self.grid.path(str(data.root)), domain)
            recipe["files"] = {path.name: self.digest(path) for path in sources}
        return Cell("corpus", (domain,), recipe)

    def _backbone(self, corpora: Mapping[str, Cell]) -> Cell:
        spec = self.spec.backbone
        if isinstance(spec, TinyBackbone):
            recipe = recipe_values(spec) | {"seed": self.seed, "threads": self.spec.threads_per_cell}
            recipe.pop("corpus")
            recipe["catalogue"] = self.spec.data.catalogue
            upstream = {f"corpus:{domain}": corpora[domain] for domain in sorted(self.spec.corpus_domains)}
            return Cell("backbone", ("tiny", *self.suffix), recipe, upstream)
        return Cell("backbone", ("pretrained", *self.suffix), self._pretrained(spec))

    def _pretrained(self, spec: PretrainedBackbone) -> dict[str, Any]:
        folder = self.grid.path(spec.path)
        if folder.is_dir():
            files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
            return {"kind": "pretrained", "files": {path.name: self.digest(path) for path in files}}
        if Path(spec.path).is_absolute() or spec.path.startswith((".", "~")):
            raise GridError(f"{self.grid.file}: backbone.path: no folder {folder}")
        return {"kind": "pretrained", "hub": spec.path, "revision": spec.revision}

    def _base(self, paradigm: str, backbone: Cell) -> Cell:
        recipe = {"paradigm": paradigm, "seed": self.seed, **model_values(self.spec.recipe(paradigm))}
        return Cell("base", (paradigm, *self.suffix), recipe, {"backbone": backbone})

    def _chain(self, paradigm: str, domain: str, corpus: Cell, base: Cell | None) -> dict[str, Cell]:
        """The checkpoints of a domain, each starting from the one before; and the one trained in one go."""
        chain: dict[str, Cell] = {}
        start = base
        for phase in self.phases:
            chain[phase] = start = self._checkpoint(paradigm, domain, phase, corpus, start)
        if paradigm in IN_ONE_GO:
            newest = chain.pop(self.phases[-1])
            chain["all"] = self._checkpoint(paradigm, domain, "all", corpus, base)
            chain[self.phases[-1]] = newest
        return chain

    def _checkpoint(self, paradigm: str, domain: str, phase: str, corpus: Cell, start: Cell | None) -> Cell:
        recipe = {
            "paradigm": paradigm,
            "phase": phase,
            "until": self.phases[-1] if phase == "all" else phase,
            "catalogue": self.spec.data.catalogue,
            "seed": self.seed,
            "threads": self.spec.threads_per_cell,
            **phase_values(self.spec.recipe(paradigm), phase),
        }
        upstream = {"corpus": corpus} | ({"start": start} if start else {})
        return Cell("checkpoint", (paradigm, domain, phase, *self.suffix), recipe, upstream)

    def _evaluation(self, model: Model, domain: str, corpus: Cell) -> Cell:
        evaluation = self.spec.evaluation
        recipe: dict[str, Any] = {
            "paradigm": model.paradigm,
            "domain": domain,
            "model": model.name,
            "target": evaluation.target,
            "max_users": evaluation.max_users,
            "catalogue": self.spec.data.catalogue,
            "seed": self.seed,
            "threads": self.spec.threads_per_cell,
        }
        if evaluation.max_users is not None:
            recipe["sample_seed"] = self.spec.all_seeds[0]  # as for the corpus: one sample for all seeds
        upstream: dict[str, Cell] = {"corpus": corpus}
        if model.cell:
            upstream["model"] = model.cell
        if model.recipe:
            recipe["merge"] = dict(model.recipe)
            upstream |= {f"source:{source}": cell for source, cell in model.sources.items()}
            if model.base:
                upstream["base"] = model.base
        return Cell("evaluation", (model.paradigm, domain, model.name, *self.suffix), recipe, upstream)

    def _options(self, merges: CrossDomainMerges, number: int) -> dict[str, Any]:
        """The method's options with its defaults filled in, so that a wrong one shows before anything is built."""
        from mmgrid.merging import MergeError, get_method  # it imports torch, which not every plan needs

        try:
            method = get_method(merges.method)
            if method.returns == "weights" and merges.scale != 1.0:
                raise MergeError(f"{method.name}: has no delta for scale = {merges.scale} to act on; use weight")
            return method.resolve(merges.options)
        except MergeError as error:
            raise GridError(f"{self.grid.file}: merges[{number}]: {error}") from None

    def _cross_domain(
        self,
        merges: CrossDomainMerges,
        corpora: Mapping[str, Cell],
        newest: Mapping[tuple[str, str], Cell],
        bases: Mapping[str, Cell],
    ) -> list[Cell]:
        """Every pair, evaluated on both its domains; with equal weights both share one merge."""
        cells: list[Cell] = []
        domains = sorted(merges.domains or self.spec.data.domains)
        for paradigm in merges.paradigms or bases:
            if paradigm not in bases:  # models without a common base have nothing in common to merge
                raise GridError(f"{self.grid.file}: merges: {paradigm} has no base Θ⁽⁰⁾ and cannot be merged")
            for pair in combinations(domains, 2):
                for target in pair:
                    model = self._pair(merges, paradigm, pair, target, newest, bases)
                    cells += [model.cell] if model.cell else []
                    cells.append(self._evaluation(model, target, corpora[target]))
        return cells

    def _pair(self, merges, paradigm, pair, target, newest, bases) -> Model:
        partner = pair[1] if target == pair[0] else pair[0]
        weights = {target: merges.weight, partner: 1 - merges.weight}
        name = merge_name(merges, weights)
        recipe = {
            "method": merges.method,
            "weights": {domain: weights[domain] for domain in sorted(weights)},
            "scale": merges.scale,
            "options": merges.options,
            "seed": self.seed,
        }
        sources = {domain: newest[paradigm, domain] for domain in sorted(pair)}
        model = Model(paradigm, name, None, sources, bases[paradigm], recipe)
        if not merges.keep:
            return model
        upstream = {f"source:{domain}": cell for domain, cell in sources.items()} | {"base": bases[paradigm]}
        kept = Cell("merge", (paradigm, name, *self.suffix), recipe, upstream)
        return Model(paradigm, name, kept, sources, bases[paradigm], recipe)


def merge_name(merges: CrossDomainMerges, weights: Mapping[str, float]) -> str:
    """A merge's readable name: `linear=beauty+toys`, or with its weights where they are not equal."""
    equal = len(set(weights.values())) == 1
    parts = [domain if equal else f"{weights[domain]:g}-{domain}" for domain in sorted(weights)]
    scale = "" if merges.scale == 1.0 else f"-scale{merges.scale:g}"
    return f"{merges.method}{scale}=" + "+".join(parts)


def phase_values(recipe: Recipe, phase: str) -> dict[str, Any]:
    """A recipe's values as they hold in one phase: a change to another phase's leaves this one's cells."""
    values = recipe_values(recipe)
    for name in ("epochs", "learning_rate"):
        values[name] = getattr(recipe, name).of(phase)
    return values
