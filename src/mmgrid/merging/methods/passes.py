"""Methods that go over a tensor several times, run by run, before they know how to compute a run of the result.

So they need neither whole tensors in memory nor statistics that the engine knows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.spread import Spread

Found = TypeVar("Found")
# (index of a run's first element, the run of each source) → the run of the result
OfRun = Callable[[int, Sequence[Floats]], Floats]


class Passes(ABC):
    """The elements of a tensor that are merged, in runs.

    Attributes:
        size: number of elements.
        spread: arithmetic over runs, by whatever is fastest.
    """

    size: int
    spread: Spread

    @abstractmethod
    def each(self, work: Callable[[int, Sequence[Floats]], Found], *, every: int = 1) -> list[Found]:
        """What `work` returns for each run, in their order.

        Args:
            work: takes the index of the run's first element and the run of each source: θᵢ or τᵢ in float32, flat, not
                to be changed or kept. Several threads may call it at once.
            every: give only the first of so many elements of each run, as a sample.
        """
