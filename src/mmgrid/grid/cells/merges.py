"""Merges of checkpoints, as the models that `[[merges]]` and studies evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.chains import Chains
from mmgrid.grid.cells.evaluations import Model, evaluation
from mmgrid.grid.file.load import GridError
from mmgrid.grid.file.spec import CrossDomainMerges


def resolved(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options with its defaults filled in; MergeError for a wrong one."""
    from mmgrid.merging import get_method  # not every plan needs the methods

    return get_method(method).resolve(dict(options))


class Merges:
    """The merges of one seed of a grid."""

    def __init__(self, chains: Chains):
        self.chains = chains
        self.sources = chains.sources

    def cells(self, merges: CrossDomainMerges, number: int) -> list[Cell]:
        """Every pair of domains of one entry of `[[merges]]`, evaluated on both."""
        options = self._options(merges, number)
        domains = sorted(merges.domains or self.sources.spec.data.domains)
        cells: list[Cell] = []
        for paradigm in merges.paradigms or self.chains.bases:
            if paradigm not in self.chains.bases:  # models without a common base have nothing in common to merge
                raise GridError(
                    f"{self.sources.grid.file}: merges[{number}]: {paradigm} has no base Θ⁽⁰⁾ and cannot be merged"
                )
            for pair in combinations(domains, 2):
                for target, partner in (pair, pair[::-1]):
                    weights = {target: merges.weight, partner: 1 - merges.weight}
                    model = self.pair(
                        paradigm, merges.method, merges.method, weights, options, merges.scale, merges.keep
                    )
                    cells += [model.upstream["model"]] if merges.keep else []
                    cells.append(evaluation(self.sources, model, target))
        return cells

    def pair(
        self,
        paradigm: str,
        method: str,
        called: str,
        weights: Mapping[str, float],
        options: Mapping[str, Any],
        scale: float = 1.0,
        keep: bool = False,
    ) -> Model:
        """The newest models of several domains as one, by their weights; with `keep` as a cell of its own."""
        newest = self.chains.phases[-1]
        checkpoints = self.chains.checkpoints[paradigm]
        sources = {domain: checkpoints[domain][newest] for domain in sorted(weights)}
        name = merge_name(called, scale, weights)
        base = self.chains.bases[paradigm]
        return self.merge(paradigm, name, method, sources, weights, options, scale, base=base, keep=keep)

    def merge(
        self,
        paradigm: str,
        name: str,
        method: str,
        sources: Mapping[str, Cell],
        weights: Mapping[str, float],
        options: Mapping[str, Any],
        scale: float = 1.0,
        *,
        base: Cell | None,
        keep: bool = False,
    ) -> Model:
        """Any merge of checkpoints of one paradigm. `options` are resolved."""
        recipe = {
            "method": method,
            "weights": {source: weights[source] for source in sorted(weights)},
            "scale": scale,
            "options": dict(options),
            "seed": self.sources.seed,
        }
        upstream = {f"source:{source}": cell for source, cell in sources.items()}
        upstream |= {"base": base} if base else {}
        if keep:
            upstream["model"] = Cell("merge", (paradigm, name, *self.sources.suffix), recipe, dict(upstream))
        return Model(paradigm, name, upstream, {"merge": recipe})

    def _options(self, merges: CrossDomainMerges, number: int) -> dict[str, Any]:
        """The method's options with its defaults filled in, so that a wrong one shows before anything is built."""
        from mmgrid.merging import MergeError, get_method

        try:
            method = get_method(merges.method)
            if method.returns == "weights" and merges.scale != 1.0:
                raise MergeError(f"{method.name}: has no delta for scale = {merges.scale} to act on; use weight")
            return resolved(merges.method, merges.options)
        except MergeError as error:
            raise GridError(f"{self.sources.grid.file}: merges[{number}]: {error}") from None


def merge_name(called: str, scale: float, weights: Mapping[str, float]) -> str:
    """A merge's readable name: `linear=beauty+toys`, or with its weights where they are not equal."""
    equal = len(set(weights.values())) == 1
    parts = [domain if equal else f"{weights[domain]:g}-{domain}" for domain in sorted(weights)]
    scaled = "" if scale == 1.0 else f"-scale{scale:g}"
    return f"{called}{scaled}=" + "+".join(parts)
