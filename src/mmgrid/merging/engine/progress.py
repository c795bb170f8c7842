"""The types of progress callbacks, and the counter that turns finished tensors into finished bytes."""

from collections.abc import Callable, Iterable, Mapping

from mmgrid.merging.models.tensors import TensorInfo

# Called by one thread at a time with a tensor, the number of its finished elements, and the number of all of them.
TensorProgress = Callable[[str, int, int], None]
# What callers pass in: called after each tensor with finished bytes, bytes in all, and the tensor's name.
MergeProgress = Callable[[int, int, str], None]


class ByteCounter:
    """Counts the bytes of finished tensors, and reports them to a callback if there is one."""

    def __init__(
        self, infos: Mapping[str, TensorInfo], progress: MergeProgress | None, finished: Iterable[str] = ()
    ) -> None:
        self._infos, self._progress = infos, progress
        self._total = sum(info.bytes for info in infos.values())
        self._done = sum(infos[name].bytes for name in finished)

    def add(self, name: str) -> None:
        """Count a tensor that is finished."""
        self._done += self._infos[name].bytes
        if self._progress is not None:
            self._progress(self._done, self._total, name)
