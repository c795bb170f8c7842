"""Counts the elements of task vectors that stages leave, for the report of a merge."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mmgrid.merging.arrays.names import OUTSIDE, layer_of, tower_of


@dataclass
class KeptCounts:
    """How many elements of each source's task vectors are left after the stages.

    Attributes:
        counts: (source, tensor) → elements left, and elements in all. Empty without stages.
    """

    counts: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def add(self, source: str, tensor: str, kept: int, size: int) -> None:
        before = self.counts.get((source, tensor), (0, 0))
        self.counts[source, tensor] = before[0] + kept, before[1] + size

    def of_tensor(self, tensor: str, sources: Iterable[str]) -> dict[str, tuple[int, int]]:
        """source → elements left, and elements in all."""
        return {source: self.counts[source, tensor] for source in sources if (source, tensor) in self.counts}

    def by_tower(self) -> dict[str, dict[str, float]]:
        """source → tower → share of elements left."""
        shares: dict[str, dict[str, float]] = {}
        for (source, tower), share in self._shares(lambda tensor: (tower_of(tensor),)).items():
            shares.setdefault(source, {})[tower] = share
        return shares

    def shares(self) -> dict[str, dict[str, dict[str, float]]]:
        """source → tower → layer → share of elements left."""
        found = self._shares(lambda tensor: (tower_of(tensor), _layer_name(tensor)))
        shares: dict[str, dict[str, dict[str, float]]] = {}
        for key in sorted(found, key=lambda key: (key[0], key[1], key[2] == OUTSIDE, key[2].zfill(6))):
            shares.setdefault(key[0], {}).setdefault(key[1], {})[key[2]] = found[key]
        return shares

    def _shares(self, group_of: Callable[[str], tuple[str, ...]]) -> dict[tuple[str, ...], float]:
        """(source, *group of the tensor) → share of elements left."""
        sums: dict[tuple[str, ...], tuple[int, int]] = {}
        for (source, tensor), (kept, size) in sorted(self.counts.items()):
            before = sums.get((source, *group_of(tensor)), (0, 0))
            sums[source, *group_of(tensor)] = before[0] + kept, before[1] + size
        return {key: kept / size if size else 0.0 for key, (kept, size) in sums.items()}


def _layer_name(tensor: str) -> str:
    layer = layer_of(tensor)
    return OUTSIDE if layer is None else str(layer)
