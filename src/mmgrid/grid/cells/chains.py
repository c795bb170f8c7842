"""Bases and chains of checkpoints: each checkpoint starts from that of the previous phase, the first from its base."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import recipe_values
from mmgrid.grid.cells.sources import Sources, model_files
from mmgrid.grid.cells.stored import START, as_stored, exact_weights
from mmgrid.grid.file.load import GridError
from mmgrid.grid.file.spec import ExternalCheckpoint
from mmgrid.grid.file.variants import Variant
from mmgrid.paradigms import PARADIGMS, Recipe
from mmgrid.paradigms.recipe import PER_PHASE
from mmgrid.store.record import RECORD_FILE

TRAINED = {"test": ("pretrain", "phase1", "phase2"), "phase2": ("pretrain", "phase1")}  # by target phase
IN_ONE_GO = "all"  # the phase name of a model that is trained once, on everything before the target phase


class Chains:
    """The bases and checkpoints of a grid for one seed."""

    def __init__(self, sources: Sources):
        self.sources = sources
        self.spec = sources.spec
        self.phases = TRAINED[self.spec.evaluation.target]

    @cached_property
    def bases(self) -> dict[str, Cell]:
        """Paradigm → Θ⁽⁰⁾, for the paradigms that start from the backbone."""
        backbone = self.sources.backbone
        names = [name for name in self.spec.paradigms if backbone and PARADIGMS[name].from_backbone]
        return {name: self._base(name, backbone) for name in names if backbone}

    @cached_property
    def checkpoints(self) -> Mapping[str, Mapping[str, Mapping[str, Cell]]]:
        """Paradigm → domain → phase → checkpoint."""
        named = dict.fromkeys([*self.spec.paradigms, *(one.paradigm for one in self.spec.checkpoints)])
        return {
            paradigm: {domain: self._chain(paradigm, domain) for domain in self.spec.data.domains} for paradigm in named
        }

    @cached_property
    def joint(self) -> Mapping[str, Mapping[str, Mapping[str, Cell]]]:
        """Name of a joint training → paradigm → phase → checkpoint."""
        return {
            joint.name: {name: self._chain(name, joint.name) for name in joint.chosen(self.spec.paradigms)}
            for joint in self.spec.joint
        }

    @cached_property
    def variants(self) -> Mapping[str, Mapping[str, Mapping[str, Cell]]]:
        """Name of a variant → paradigm → domain → checkpoint of the newest phase."""
        return {
            variant.name: {
                paradigm: {
                    domain: self._variant(variant, paradigm, domain)
                    for domain in variant.domains or self.spec.data.domains
                }
                for paradigm in variant.chosen(self.spec.paradigms)
            }
            for variant in self.spec.variants
        }

    def _variant(self, variant: Variant, paradigm: str, domain: str) -> Cell:
        chain, phase = self.checkpoints[paradigm][domain], self.phases[-1]
        start = chain[phase if variant.start == "newest" else self.phases[-2]]
        return self._checkpoint(paradigm, domain, phase, start, variant)

    def _base(self, paradigm: str, backbone: Cell) -> Cell:
        spec, values = PARADIGMS[paradigm], self.spec.recipe(paradigm)
        recipe: dict[str, Any] = {"paradigm": paradigm, **spec.base_values(values)}
        if spec.draws_base(values):
            recipe["seed"] = self.sources.seed
        key = (paradigm, *self.sources.suffix)
        return Cell("base", key, recipe, {"backbone": backbone}, version=spec.versions.get("base", 0))

    def _chain(self, paradigm: str, domain: str) -> dict[str, Cell]:
        """The checkpoints of a domain by phase, including the one that is trained in one go, if any.

        An external checkpoint replaces the grid's own; a paradigm that the grid does not train has only external ones.
        """
        external = {one.phase: one for one in self.spec.checkpoints if (one.paradigm, one.domain) == (paradigm, domain)}
        trained = paradigm in self.spec.paradigms
        base = self.bases.get(paradigm)
        chain: dict[str, Cell] = {}
        start = base
        for phase in self.phases:
            if phase in external:
                chain[phase] = start = self._external(external[phase])
            elif trained:
                chain[phase] = start = self._checkpoint(paradigm, domain, phase, start)
        if trained and PARADIGMS[paradigm].in_one_go:
            newest = chain.pop(self.phases[-1])
            chain[IN_ONE_GO] = self._checkpoint(paradigm, domain, IN_ONE_GO, base)
            chain[self.phases[-1]] = newest
        return chain

    def _checkpoint(
        self, paradigm: str, domain: str, phase: str, stored: Cell | None, variant: Variant | None = None
    ) -> Cell:
        """A checkpoint as it is stored, trained from the exact weights of `stored`, the one before or the base."""
        start = exact_weights(stored) if stored else None
        spec, values, sources = PARADIGMS[paradigm], self.spec.recipe(paradigm, variant), self.sources
        catalogue = self.spec.data.catalogue
        recipe = {
            "paradigm": paradigm,
            "phase": phase,
            "until": self.phases[-1] if phase == IN_ONE_GO else phase,
            "catalogue": catalogue,
            "seed": sources.seed,
            "threads": self.spec.threads_per_cell,
            **phase_values(values, phase),
            **spec.more_training_values(values, phase, catalogue),
        }
        upstream = {"corpus": sources.corpus(domain)} | ({START: start} if start else {})
        if start is None or start.kind == "base":  # later phases find their needs in the checkpoint before
            upstream |= sources.needs(spec.training_needs, domain)
        elif values.base_decay and paradigm in self.bases:
            upstream["base"] = self.bases[paradigm]
        key = (paradigm, domain, variant.name if variant else phase, *sources.suffix)
        version = spec.versions.get("checkpoint", 0)
        placing = {"processes": values.processes, "sharded": values.sharding == "full"}
        trained = Cell("checkpoint", key, recipe, upstream, version=version, **placing)
        return as_stored(trained, stored, self.spec.store)

    def _external(self, spec: ExternalCheckpoint) -> Cell:
        """An external checkpoint, trained outside this grid."""
        from mmgrid.merging.models.sources import is_adapter

        grid = self.sources.grid
        folder = grid.path(spec.path)
        if not folder.is_dir():
            raise GridError(f"{grid.file}: checkpoints: {spec.paradigm} {spec.domain} {spec.phase}: no folder {folder}")
        if is_adapter(folder):
            raise GridError(
                f"{grid.file}: checkpoints: {folder} is a LoRA adapter; merge it into its model first: a recipe of "
                "`mmgrid merge` with `method: linear` and this folder as its only source"
            )
        # The folder may be a cell of another store.
        files = [path for path in model_files(folder) if path.name != RECORD_FILE]
        recipe = {
            "paradigm": spec.paradigm,
            "phase": spec.phase,
            "phases": self.spec.phases.calendar().as_dates(),
            "files": {path.name: self.sources.digest(path) for path in files},
        }
        key = (spec.paradigm, spec.domain, spec.phase)
        return Cell("checkpoint", key, recipe, version=PARADIGMS[spec.paradigm].versions.get("checkpoint", 0))


def phase_values(recipe: Recipe, phase: str) -> dict[str, Any]:
    """The recipe's values for one phase, so that changing another phase leaves the cells of this one unchanged."""
    left_out = {*recipe.EVALUATION, *recipe.PLACING}
    values = {name: value for name, value in recipe_values(recipe).items() if name not in left_out}
    for name in PER_PHASE:
        values[name] = getattr(recipe, name).of(phase)
    if not values["least_steps"]:  # absent from cells that are older than it
        del values["least_steps"]
    if phase in ("pretrain", IN_ONE_GO):  # nothing comes before that could be rehearsed
        values.pop("rehearsal", None)
    return values


def is_joint(model: Cell) -> bool:
    """Whether a checkpoint was trained on several domains at once."""
    trained = exact_weights(model)
    return (
        trained.kind == "checkpoint" and "corpus" in trained.upstream and "joint" in trained.upstream["corpus"].recipe
    )


def is_variant(model: Cell) -> bool:
    """Whether a checkpoint is of the newest phase, trained in another way than the grid's own."""
    return model.kind == "checkpoint" and model.key[2] != model.recipe["phase"]
