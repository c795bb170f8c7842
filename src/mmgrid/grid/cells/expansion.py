"""The cells of one seed of a grid, apart from its studies: corpora, backbone, checkpoints, merges, evaluations."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from mmgrid.data import READERS
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import recipe_values
from mmgrid.grid.file.load import Grid, GridError
from mmgrid.grid.file.spec import (
    TEXT_PARADIGMS,
    CrossDomainMerges,
    GivenCheckpoint,
    GridSpec,
    PretrainedBackbone,
    TinyBackbone,
)
from mmgrid.paradigms import OFFICIAL_USERS, Recipe, SemidRecipe, model_values
from mmgrid.store.record import RECORD_FILE

BASELINES = ("popularity", "random")
TRAINED = {"test": ("pretrain", "phase1", "phase2"), "phase2": ("pretrain", "phase1")}  # by what is to be ranked
IN_ONE_GO = ("sasrec",)  # paradigms that are also trained once on everything before the target

Digest = Callable[[Path], str]


@dataclass(frozen=True)
class Model:
    """A model that is evaluated: a trained checkpoint, a merge, or a point of a sweep.

    upstream: the cells it is made from, by their role.  recipe: how, if not simply by loading the role `model`.
    family: of a sweep's points, see `Cell`.
    """

    paradigm: str
    name: str
    upstream: Mapping[str, Cell] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""


@dataclass(frozen=True)
class Built:
    """The cells that merges and studies of one seed stand on.

    bases: Θ⁽⁰⁾ by paradigm.  chains: checkpoints by paradigm, domain and phase.
    """

    corpora: Mapping[str, Cell]
    backbone: Cell | None
    bases: Mapping[str, Cell]
    chains: Mapping[str, Mapping[str, Mapping[str, Cell]]]


class Expansion:
    """The cells of one seed."""

    def __init__(self, grid: Grid, digest: Digest, seed: int):
        self.grid = grid
        self.spec: GridSpec = grid.spec
        self.digest = digest
        self.seed = seed
        self.suffix = (f"seed={seed}",) if len(self.spec.all_seeds) > 1 else ()
        self.phases = TRAINED[self.spec.evaluation.target]

    def cells(self, built: Built) -> list[Cell]:
        """All but the studies', what is built first coming first."""
        cells: list[Cell] = [*built.corpora.values()]
        cells += [built.backbone] if built.backbone else []
        cells += built.bases.values()
        for paradigm, by_domain in built.chains.items():
            for domain, chain in by_domain.items():
                for phase, checkpoint in chain.items():
                    model = Model(paradigm, phase, {"model": checkpoint})
                    cells += [checkpoint, self.evaluation(model, domain, built.corpora[domain])]
        for domain, corpus in built.corpora.items():
            cells += [self.evaluation(Model("baseline", name), domain, corpus) for name in BASELINES]
        for number, merges in enumerate(self.spec.merges):
            options = self._options(merges, number)
            cells += self._cross_domain(merges.model_copy(update={"options": options}), built)
        return cells

    def built(self) -> Built:
        """What merges and studies stand on."""
        bases = {p: self._base(p, self.backbone) for p in self.spec.paradigms if self.backbone and p in TEXT_PARADIGMS}
        named = dict.fromkeys([*self.spec.paradigms, *(given.paradigm for given in self.spec.checkpoints)])
        chains = {
            paradigm: {domain: self._chain(paradigm, domain, bases.get(paradigm)) for domain in self.corpora}
            for paradigm in named
        }
        return Built(self.corpora, self.backbone, bases, chains)

    @cached_property
    def corpora(self) -> dict[str, Cell]:
        return {domain: self._corpus(domain) for domain in self.spec.data.domains}

    @cached_property
    def backbone(self) -> Cell | None:
        return self._backbone(self.corpora) if any(p in TEXT_PARADIGMS for p in self.spec.paradigms) else None

    def _corpus(self, domain: str) -> Cell:
        data = self.spec.data
        recipe: dict[str, Any] = {
            "format": data.format,
            "domain": domain,
            "phases": self.spec.phases.calendar().as_dates(),
            "min_interactions": data.min_interactions,
            "max_users": data.max_users,
            "compat": data.compat or self.spec.compat,
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
        assert spec is not None  # the spec sees to it where a paradigm is trained from one
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
            files = _files(folder)
            return {"kind": "pretrained", "files": {path.name: self.digest(path) for path in files}}
        if Path(spec.path).is_absolute() or spec.path.startswith((".", "~")):
            raise GridError(f"{self.grid.file}: backbone.path: no folder {folder}")
        return {"kind": "pretrained", "hub": spec.path, "revision": spec.revision}

    def _base(self, paradigm: str, backbone: Cell) -> Cell:
        values = self.spec.recipe(paradigm)
        recipe: dict[str, Any] = {"paradigm": paradigm, **model_values(values)}
        if isinstance(values, SemidRecipe) and values.weights == "drawn":
            recipe["weights"] = values.weights
        if paradigm == "semb" or "weights" in recipe:  # of the others nothing is drawn
            recipe["seed"] = self.seed
        return Cell("base", (paradigm, *self.suffix), recipe, {"backbone": backbone})

    def vectors(self, domain: str, table: Literal["items", "titles"]) -> Cell:
        """A domain's item vectors: of title and description as `[item_vectors]` says, or of the titles alone."""
        spec, backbone = self.spec.item_vectors, self.backbone
        recipe: dict[str, Any] = {
            "domain": domain,
            "catalogue": self.spec.data.catalogue,
            "threads": self.spec.threads_per_cell,
        }
        upstream = {"corpus": self.corpora[domain]}
        name = spec.source if table == "items" else table
        if table == "titles":
            recipe["texts"] = "titles"
        if spec.source == "table" and table == "items":
            path = self.grid.path(str(spec.path)) / f"{domain}.parquet"
            if not path.is_file():
                raise GridError(
                    f"{self.grid.file}: item_vectors: no file {path}; each domain needs its table of vectors"
                )
            recipe["file"] = self.digest(path)
        elif spec.source == "sentence-transformers":
            recipe |= {"source": spec.source, **self._embedding_model(str(spec.path))}
        else:
            assert backbone is not None  # who asks for vectors has one
            upstream["backbone"] = backbone
        return Cell("vectors", (domain, name, *self.suffix), recipe, upstream)

    def _embedding_model(self, path: str) -> dict[str, Any]:
        folder = self.grid.path(path)
        if not folder.is_dir():
            return {"hub": path, "revision": self.spec.item_vectors.revision}
        names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
        told = [name for name in names if not any(part.startswith(".") for part in name.parts)]
        return {"files": {str(name): self.digest(folder / name) for name in told}}

    def codes(self, domain: str) -> Cell:
        """A domain's semantic IDs."""
        spec = self.spec.semantic_ids
        recipe: dict[str, Any] = {
            "domain": domain,
            "catalogue": self.spec.data.catalogue,
            "seed": self.seed,
            "threads": self.spec.threads_per_cell,
            "quantiser": recipe_values(spec.quantiser),
        }
        if self.spec.data.catalogue == "open":
            recipe["phases"] = self.spec.phases.calendar().as_dates()
        upstream = {"corpus": self.corpora[domain], "vectors": self.vectors(domain, "items")}
        if spec.codebook == "shared":  # fitted on all domains together
            for other in sorted(self.corpora):
                upstream[f"corpus:{other}"] = self.corpora[other]
                upstream[f"vectors:{other}"] = self.vectors(other, "items")
        return Cell("codes", (domain, *self.suffix), recipe, upstream)

    def _chain(self, paradigm: str, domain: str, base: Cell | None) -> dict[str, Cell]:
        """The checkpoints of a domain, each starting from the one before; and the one trained in one go.

        Those that somebody else trained take the place of ours; of a paradigm that the grid does not train they are
        all there is.
        """
        given = {g.phase: g for g in self.spec.checkpoints if (g.paradigm, g.domain) == (paradigm, domain)}
        trained = paradigm in self.spec.paradigms
        chain: dict[str, Cell] = {}
        start = base
        for phase in self.phases:
            if phase in given:
                chain[phase] = start = self._given(given[phase])
            elif trained:
                chain[phase] = start = self._checkpoint(paradigm, domain, phase, start)
        if trained and paradigm in IN_ONE_GO:
            newest = chain.pop(self.phases[-1])
            chain["all"] = self._checkpoint(paradigm, domain, "all", base)
            chain[self.phases[-1]] = newest
        return chain

    def _given(self, given: GivenCheckpoint) -> Cell:
        folder = self.grid.path(given.path)
        if not folder.is_dir():
            raise GridError(
                f"{self.grid.file}: checkpoints: {given.paradigm} {given.domain} {given.phase}: no folder {folder}"
            )
        files = [path for path in _files(folder) if path.name != RECORD_FILE]  # it may be a cell of another store
        recipe = {
            "paradigm": given.paradigm,
            "phase": given.phase,
            "phases": self.spec.phases.calendar().as_dates(),
            "files": {path.name: self.digest(path) for path in files},
        }
        return Cell("checkpoint", (given.paradigm, given.domain, given.phase), recipe)

    def _checkpoint(self, paradigm: str, domain: str, phase: str, start: Cell | None) -> Cell:
        recipe = {
            "paradigm": paradigm,
            "phase": phase,
            "until": self.phases[-1] if phase == "all" else phase,
            "catalogue": self.spec.data.catalogue,
            "seed": self.seed,
            "threads": self.spec.threads_per_cell,
            **phase_values(self.spec.recipe(paradigm), phase),
        }
        if paradigm == "semid" and self.spec.data.catalogue == "open" and phase not in ("pretrain", "all"):
            recipe["new_items"] = "told"  # all of them in each epoch, however little of the known ones is repeated
        upstream = {"corpus": self.corpora[domain]} | ({"start": start} if start else {})
        if paradigm == "semid" and start is not None and start.kind == "base":  # later phases find them in their start
            upstream["codes"] = self.codes(domain)
        return Cell("checkpoint", (paradigm, domain, phase, *self.suffix), recipe, upstream)

    def evaluation(self, model: Model, domain: str, corpus: Cell, max_users: int | None = None) -> Cell:
        """The evaluation of a model; `max_users` for a study that takes fewer users than the grid does."""
        evaluation = self.spec.evaluation
        most = evaluation.most_users(model.paradigm)
        if most is None and self.spec.compat == "official":
            most = OFFICIAL_USERS.get(model.paradigm)
        fewer = max_users is not None and max_users < (most or math.inf)
        max_users = max_users if fewer else most
        recipe: dict[str, Any] = {
            "paradigm": model.paradigm,
            "domain": domain,
            "model": model.name,
            "target": evaluation.target,
            "max_users": max_users,
            "catalogue": self.spec.data.catalogue,
            "seed": self.seed,
            "threads": self.spec.threads_per_cell,
            **model.recipe,
        }
        if max_users is not None:
            recipe["sample_seed"] = self.spec.all_seeds[0]  # as for the corpus: one sample for all seeds
        if asked := self._asked(model.paradigm):
            recipe["asked"] = asked
        suffix = (f"users={max_users}", *self.suffix) if fewer else self.suffix
        key = (model.paradigm, domain, model.name, *suffix)
        upstream = {"corpus": corpus, **model.upstream, **self._grounds(model.paradigm, domain)}
        return Cell("evaluation", key, recipe, upstream, model.family)

    def _asked(self, paradigm: str) -> dict[str, Any]:
        """How a model of this paradigm is asked, where that can be chosen."""
        if paradigm not in self.spec.paradigms:
            return {}
        recipe = self.spec.recipe(paradigm)
        return {name: value for name, value in recipe_values(recipe).items() if name in recipe.ASKED}

    def _grounds(self, paradigm: str, domain: str) -> dict[str, Cell]:
        """What is needed to turn what text says into items."""
        if paradigm != "text":
            return {}
        if self.spec.item_vectors.source == "sentence-transformers":
            return {"asks:titles": self.vectors(domain, "titles")}
        if self.backbone is None:  # a checkpoint from elsewhere, which grounds its titles by its own hidden states
            return {}
        return {"asks:titles": self.vectors(domain, "titles"), "asks:embedder": self.backbone}

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

    def _cross_domain(self, merges: CrossDomainMerges, built: Built) -> list[Cell]:
        """Every pair, evaluated on both its domains; with equal weights both share one merge."""
        cells: list[Cell] = []
        for paradigm in merges.paradigms or built.bases:
            if merges.keep and paradigm == "semid":  # each of the two domains needs its own codes and token rows
                raise GridError(
                    f"{self.grid.file}: merges: keep = true: a merge of semid is asked as one domain's model at a time, "
                    "and cannot be kept as one checkpoint; leave it out, or name other paradigms"
                )
            if paradigm not in built.bases:  # models without a common base have nothing in common to merge
                raise GridError(f"{self.grid.file}: merges: {paradigm} has no base Θ⁽⁰⁾ and cannot be merged")
            for pair in combinations(sorted(merges.domains or self.spec.data.domains), 2):
                for target in pair:
                    model = self.pair(merges, merges.method, paradigm, pair, target, built)
                    cells += [model.upstream["model"]] if "model" in model.upstream else []
                    cells.append(self.evaluation(model, target, built.corpora[target]))
        return cells

    def pair(
        self, merges: CrossDomainMerges, called: str, paradigm: str, pair: tuple[str, str], target: str, built: Built
    ) -> Model:
        """The newest models of two domains as one; `target` has the weight that `merges` gives."""
        partner = pair[1] if target == pair[0] else pair[0]
        weights = {target: merges.weight, partner: 1 - merges.weight}
        name = merge_name(called, merges.scale, weights)
        recipe = {
            "method": merges.method,
            "weights": {domain: weights[domain] for domain in sorted(weights)},
            "scale": merges.scale,
            "options": merges.options,
            "seed": self.seed,
        }
        newest = self.phases[-1]
        upstream = {f"source:{domain}": built.chains[paradigm][domain][newest] for domain in sorted(pair)}
        upstream["base"] = built.bases[paradigm]
        if merges.keep:
            upstream["model"] = Cell("merge", (paradigm, name, *self.suffix), recipe, dict(upstream))
        return Model(paradigm, name, upstream, {"merge": recipe})


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def merge_name(called: str, scale: float, weights: Mapping[str, float]) -> str:
    """A merge's readable name: `linear=beauty+toys`, or with its weights where they are not equal."""
    equal = len(set(weights.values())) == 1
    parts = [domain if equal else f"{weights[domain]:g}-{domain}" for domain in sorted(weights)]
    scaled = "" if scale == 1.0 else f"-scale{scale:g}"
    return f"{called}{scaled}=" + "+".join(parts)


def phase_values(recipe: Recipe, phase: str) -> dict[str, Any]:
    """A recipe's values as they hold in one phase: a change to another phase's leaves this one's cells."""
    values = {name: value for name, value in recipe_values(recipe).items() if name not in recipe.ASKED}
    for name in ("epochs", "learning_rate"):
        values[name] = getattr(recipe, name).of(phase)
    return values
