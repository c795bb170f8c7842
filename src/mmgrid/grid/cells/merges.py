"""Merges of checkpoints, as models that `[[merges]]` and studies evaluate."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.chains import Chains
from mmgrid.grid.cells.evaluations import Model, evaluation
from mmgrid.grid.file.load import GridError
from mmgrid.grid.file.merges import CrossDomainMerges
from mmgrid.seeds import derive


def resolved(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options with its defaults filled in; MergeError for an invalid option."""
    from mmgrid.merging import get_method  # imported late: most grids plan without merge methods

    return get_method(method).resolve(dict(options))


def refusal_of(settings: Mapping[str, Any], *, learned: bool = False) -> str | None:
    """Why a method cannot merge with its settings, whatever the models are; None if nothing speaks against it.

    Args:
        settings: method, weights and options with all defaults; a rule without a method merges nothing.
        learned: whether a learner measures what the method takes.
    """
    if "method" not in settings:
        return None
    from mmgrid.merging import get_method
    from mmgrid.merging.methods.refusal import refusal

    method = get_method(settings["method"])
    if method.statistics is not None and not learned:
        return (
            f"{method.name}: needs what was measured of its sources; write a merge with a name and "
            f'learn = {{ by = "{method.name}" }}'
        )
    return refusal(method, list(settings["weights"].values()), settings["options"])


class Merges:
    """The merges of a grid for one seed."""

    def __init__(self, chains: Chains):
        self.chains = chains
        self.sources = chains.sources

    def cells(self, merges: CrossDomainMerges, number: int) -> list[Cell]:
        """The cells of one entry of `[[merges]]`: every pair of domains, merged and evaluated on both."""
        options = self._options(merges, number)
        domains = sorted(merges.domains or self.sources.spec.data.domains)
        cells: list[Cell] = []
        for paradigm in merges.paradigms or self.chains.bases:
            if paradigm not in self.chains.bases:  # only models with a common base can be merged
                raise GridError(
                    f"{self.sources.grid.file}: merges[{number}]: {paradigm} has no base Θ⁽⁰⁾ and cannot be merged"
                )
            for pair in combinations(domains, 2):
                for target, partner in (pair, pair[::-1]):
                    weights = {target: merges.weight, partner: 1 - merges.weight}
                    model = self.pair(
                        paradigm, merges.method, merges.method, weights, options, merges.scale, merges.keep
                    )
                    if (problem := refusal_of(model.recipe["merge"])) is not None:
                        raise GridError(f"{self.sources.grid.file}: merges[{number}]: {problem}")
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
        draw: int = 0,
    ) -> Model:
        """A merge of the newest models of several domains.

        called: the name of the method in results. weights: by domain. keep: whether the merge becomes a cell.
        """
        newest = self.chains.phases[-1]
        checkpoints = self.chains.checkpoints[paradigm]
        sources = {domain: checkpoints[domain][newest] for domain in sorted(weights)}
        name = merge_name(called, scale, weights)
        base = self.chains.bases[paradigm]
        return self.merge(paradigm, name, method, sources, weights, options, scale, base=base, keep=keep, draw=draw)

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
        draw: int = 0,
    ) -> Model:
        """A merge of checkpoints of one paradigm.

        options: resolved, with defaults. draw: of its random masks; the first, 0, has the seed of the grid.
        """
        recipe = {
            "method": method,
            "weights": {source: weights[source] for source in sorted(weights)},
            "scale": scale,
            "options": dict(options),
            "seed": drawn_by(self.sources.seed, draw),
        }
        if draw:
            recipe["draw"], name = draw, draw_name(name, draw)
        upstream = {f"source:{source}": cell for source, cell in sources.items()}
        upstream |= {"base": base} if base else {}
        if keep:
            upstream["model"] = Cell("merge", (paradigm, name, *self.sources.suffix), recipe, dict(upstream))
        return Model(paradigm, name, upstream, {"merge": recipe})

    def _options(self, merges: CrossDomainMerges, number: int) -> dict[str, Any]:
        """The method's options with its defaults filled in; an invalid option is reported before anything is built."""
        from mmgrid.merging import MergeError, get_method

        try:
            method = get_method(merges.method)
            if method.returns == "weights" and merges.scale != 1.0:
                raise MergeError(
                    f"{method.name}: scale = {merges.scale} has no effect, because this method has no delta; use weight"
                )
            return resolved(merges.method, merges.options)
        except MergeError as error:
            raise GridError(f"{self.sources.grid.file}: merges[{number}]: {error}") from None


def drawn_by(seed: int, draw: int) -> int:
    """The seed of the random masks of a draw: that of the grid for the first."""
    return derive(seed, "merges", "draw", draw) if draw else seed


def draw_name(name: str, draw: int) -> str:
    """The name of a merge's draw in results."""
    return f"{name}-draw{draw}" if draw else name


def merge_name(called: str, scale: float, weights: Mapping[str, float]) -> str:
    """The readable name of a merge: `linear=beauty+toys`, with weights if they are not equal."""
    equal = len(set(weights.values())) == 1
    parts = [domain if equal else f"{weights[domain]:g}-{domain}" for domain in sorted(weights)]
    scaled = "" if scale == 1.0 else f"-scale{scale:g}"
    return f"{called}{scaled}=" + "+".join(parts)
