"""Writes the weights of a model: its own file, and one for each of its modules that is merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from mmgrid.merging.models.modules import module_of
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.models.weight_files import WEIGHTS_FILE


class ModelWriter:
    """Writes new safetensors files; any thread may write runs in any order, each at its final place.

    Args:
        folder: the model's.
        tensors: name → type and shape; those of a module are called `2_Dense/linear.weight`.
        modules: the modules' folders.
        resume, twins, digest: as for `TensorWriter`; `digest` is that of the model's own file.
    """

    def __init__(
        self,
        folder: Path,
        tensors: Mapping[str, TensorInfo],
        modules: Sequence[str] = (),
        *,
        resume: bool = False,
        twins: Mapping[str, str] | None = None,
        digest: str | None = None,
    ) -> None:
        self._places = {
            name: (module, name.removeprefix(f"{module}/")) for name in tensors if (module := module_of(name, modules))
        }
        with ExitStack() as stack:
            own = {name: info for name, info in tensors.items() if name not in self._places}
            self._own = stack.enter_context(
                TensorWriter(folder / WEIGHTS_FILE, own, resume=resume, twins=twins, digest=digest)
            )
            self._modules: dict[str, TensorWriter] = {}
            for module in modules:
                (folder / module).mkdir(exist_ok=True)
                held = {short: tensors[name] for name, (where, short) in self._places.items() if where == module}
                self._modules[module] = stack.enter_context(
                    TensorWriter(folder / module / WEIGHTS_FILE, held, resume=resume)
                )
            self._open = stack.pop_all()

    def write(self, name: str, start: int, stored: np.ndarray) -> None:
        """Write a run of elements from element `start` on; its type must be the tensor's."""
        if name in self._places:
            module, short = self._places[name]
            self._modules[module].write(short, start, stored)
        else:
            self._own.write(name, start, stored)

    def digest(self) -> str | None:
        """The digest of the model's own file, once all has been written; None if none is taken."""
        return self._own.digest()

    def __enter__(self) -> ModelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


def can_resume(folder: Path, modules: Sequence[str]) -> bool:
    """Whether the files of a model that an earlier process began are all there."""
    return all((folder / place / WEIGHTS_FILE).is_file() for place in ("", *modules))
