"""The families of `[[families]]`: their cells, and the evaluations of their domains as they are stored.

The recipe of a family has its sources in order, what is shared (`average`, `backbone`, `merge` or `chain`), and its parts
with all defaults. Its models have the roles `source:NAME`, `merge` (that is shared) and `base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.evaluations import Model, evaluation
from mmgrid.grid.cells.fingerprint import recipe_values
from mmgrid.grid.cells.general_merges import GeneralMerges
from mmgrid.grid.file.families import Family
from mmgrid.grid.file.load import GridError
from mmgrid.grid.file.merges import BACKBONE, place_of
from mmgrid.paradigms import PARADIGMS
from mmgrid.patterns import listed

if TYPE_CHECKING:
    from mmgrid.families.parts import PartChoice

OWN_VERSION = 2  # of families with own tensors, which the shared model no longer has
AVERAGE, MERGE, CHAIN = "average", "merge", "chain"  # what is shared, beside the backbone


class Families:
    """The families of a grid for one seed. merges: those of the grid, which may be shared."""

    def __init__(self, merges: GeneralMerges):
        self.chains, self.sources, self.merges = merges.chains, merges.sources, merges
        self.domains = merges.domains

    def cells(self, number: int) -> list[Cell]:
        """The cells of one entry of `[[families]]`.

        Raises:
            GridError: a model does not exist, or does not fit; the message names family and key.
        """
        family = self.chains.spec.families[number]
        cells: list[Cell] = []
        for paradigm in self._paradigms(family):
            for domain in family.served(self.domains):
                stored = self._cell(paradigm, family, domain)
                # Of a chain, the newest phase: it has the errors of all before.
                about = {"member": family.chain[-1] if family.chain else domain, "sources": stored.recipe["sources"]}
                model = Model(paradigm, family.name, {"model": stored}, {"family": about})
                cells += [stored, evaluation(self.sources, model, domain)]
        return cells

    def _cell(self, paradigm: str, family: Family, domain: str) -> Cell:
        """The family; a chain is one of the domain."""
        newest = self.chains.phases[-1]
        if family.chain:
            whose, shared = (domain,), CHAIN
            models = {phase: self._checkpoint(paradigm, family, domain, phase) for phase in family.chain}
        else:
            whose, shared = (), AVERAGE
            members = sorted(family.members(self.domains))
            models = {name: self._checkpoint(paradigm, family, name, newest) for name in members}
        upstream = {f"source:{name}": cell for name, cell in models.items()}
        if family.shared == BACKBONE:
            shared = BACKBONE
        elif family.shared is not None:
            shared, upstream[MERGE] = MERGE, self._merge(paradigm, family, family.shared)
        if shared == BACKBONE or family.parts.masks:
            upstream["base"] = self.chains.bases[paradigm]
        parts = part_values(family.parts, PARADIGMS[paradigm].towers)
        recipe = {"sources": list(models), "shared": shared, "parts": parts}
        key = (paradigm, family.name, *whose, *self.sources.suffix)
        version = OWN_VERSION if any(part.kind == "own" for part in family.parts.all) else 0
        return Cell("family", key, recipe, upstream, version=version)

    def _checkpoint(self, paradigm: str, family: Family, domain: str, phase: str) -> Cell:
        chain = self.chains.checkpoints[paradigm].get(domain, {})
        if phase not in chain:
            has, key = ", ".join(chain) or "none", "chain" if family.chain else "sources"
            raise self._wrong(family, key, f"{paradigm} has no checkpoint of {domain} at {phase}; it has {has}")
        return chain[phase]

    def _merge(self, paradigm: str, family: Family, name: str) -> Cell:
        """The kept cell of a merge that is shared."""
        merge = self.merges.named[name]
        if self.merges.per_domain(merge):
            raise self._wrong(
                family, "shared", f"the merge {name} differs by the domain that it serves, and all share one model"
            )
        return self.merges.kept(paradigm, merge, self.merges.served(merge)[0])

    def _paradigms(self, family: Family) -> list[str]:
        """The paradigms whose models make a family: as it says, else all that can.

        Raises:
            GridError: it names one that cannot, or none can.
        """
        trained = [name for name in self.chains.checkpoints if not PARADIGMS[name].in_one_go]
        reasons = {name: self._unfit(name, family) for name in family.paradigms or trained}
        found = [name for name, reason in reasons.items() if reason is None]
        wrong = [reason for reason in reasons.values() if reason is not None]
        if wrong and (family.paradigms or not found):
            raise self._wrong(family, *wrong[0])
        if not found:
            raise self._wrong(family, "paradigms", "the grid has none whose models make a family")
        return found

    def _unfit(self, paradigm: str, family: Family) -> tuple[str, str] | None:
        """Key and reason why a family cannot be made of this paradigm's models; None if it can."""
        spec, newest = PARADIGMS[paradigm], self.chains.phases[-1]
        if lacking := sorted(family.towers.keys() - spec.towers.keys()):
            has = f"it has {' and '.join(spec.towers)}" if spec.towers else "it has none"
            return "towers", f"{paradigm} has no tower {', '.join(lacking)}; {has}"
        if family.chain:
            if family.chain[-1] == newest:
                return None
            return "chain", f"must end with {newest}, the phase of the newest checkpoint, which is evaluated"
        if not spec.from_backbone:
            return "paradigms", f"{paradigm} has no base Θ⁽⁰⁾, so its domains share nothing; a chain of phases does"
        if (family.shared == BACKBONE or family.parts.masks) and paradigm not in self.chains.bases:
            key = "shared" if family.shared == BACKBONE else "part"
            return key, f"{paradigm} has no base Θ⁽⁰⁾; it needs [backbone] and [paradigms.{paradigm}]"
        if family.shared not in (None, BACKBONE) and paradigm not in self.merges.paradigms(
            merge := self.merges.named[str(family.shared)]
        ):
            return "shared", f"{merge.name} is no merge of {paradigm}; add it to the paradigms of {merge.name}"
        return None

    def _wrong(self, family: Family, key: str, problem: str) -> GridError:
        """An error that names the file, the family and the key."""
        number = self.chains.spec.families.index(family)
        place = place_of(number, family.name, key, "families")
        return GridError(f"{self.sources.grid.file}: {place}: {problem}")


def part_values(parts: PartChoice, towers: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The parts with all defaults: the general one, and rules; towers become rules by the patterns of the paradigm."""
    rules = [(rule.tensors, rule.part) for rule in parts.rules]
    rules += [(towers[name], parts.towers[name]) for name in sorted(parts.towers)]
    return {
        "part": recipe_values(parts.part),
        "rules": [{"tensors": [*listed(tensors)], "part": recipe_values(part)} for tensors, part in rules],
    }
