"""Modules of sentence-transformers that have weights of their own, such as `2_Dense`: seen as tensors of their model.

Their tensors are called like their folder: `2_Dense/linear.weight`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.closing import Closing
from mmgrid.merging.models.companions import modules_of, modules_with_weights
from mmgrid.merging.models.passing import Followed, PassingDigest
from mmgrid.merging.models.settings import CONFIG_FILE
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo
from mmgrid.merging.models.weight_files import WEIGHTS_FILE


class ModularSource(Closing):
    """A model with the tensors of its modules. Closing it closes the model and the modules.

    Args:
        model: the model without them.
        modules: name of the folder → its tensors.
    """

    def __init__(self, model: Source, modules: Mapping[str, TensorFolder]) -> None:
        self.model, self.modules = model, dict(modules)
        self._places = {f"{name}/{tensor}": (held, tensor) for name, held in modules.items() for tensor in held}

    @property
    def path(self) -> Path:
        return self.model.path

    @property
    def files(self) -> list[Path]:
        return [*self.model.files, *(file for held in self.modules.values() for file in held.files)]

    @property
    def stamps(self) -> list[tuple[int, int, int]]:
        return [*self.model.stamps, *(stamp for held in self.modules.values() for stamp in held.stamps)]

    @property
    def companions(self) -> Path:
        return self.model.companions

    def __iter__(self) -> Iterator[str]:
        yield from self.model
        yield from self._places

    def __len__(self) -> int:
        return len(self.model) + len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self.model

    def info(self, name: str) -> TensorInfo:
        held, own = self._places.get(name, (self.model, name))
        return held.info(own)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        held, own = self._places.get(name, (self.model, name))
        return held.read(own, start, stop)

    def follow(self, digest_of: Callable[[Path], PassingDigest | None]) -> None:
        if isinstance(self.model, Followed):
            self.model.follow(digest_of)

    def check_unchanged(self) -> None:
        for held in (self.model, *self.modules.values()):
            held.check_unchanged()

    def close(self) -> None:
        for held in (self.model, *self.modules.values()):
            held.close()


def module_of(tensor: str, modules: Sequence[str]) -> str | None:
    """The module that a tensor belongs to; None for one of the model itself."""
    folder, separator, _ = tensor.partition("/")
    return folder if separator and folder in modules else None


def in_one(model: Source, folder: Path, modules: Sequence[str]) -> Source:
    """A model with the tensors of its modules in `folder`; the model itself if there are none."""
    if not modules:
        return model
    with ExitStack() as stack:
        opened = {name: stack.enter_context(TensorFolder(folder / name / WEIGHTS_FILE)) for name in modules}
        stack.pop_all()
    return ModularSource(model, opened)


def common_modules(models: Mapping[str, Path], first: Path) -> tuple[list[str], list[str]]:
    """The modules that can be merged, because all models have them with equal settings and tensors; and notes on others.

    Args:
        models: what a user calls a model → its folder.
        first: the folder of the model whose config is copied.
    """
    common, notes = [], []
    for name in modules_with_weights(first):
        problem = None
        for called, folder in models.items():
            problem = problem or _difference(first, folder, name, called)
        if problem is None:
            common.append(name)
        else:
            notes.append(f"{name}: its weights are not merged; the result has those of {first}: {problem}")
    for called, folder in models.items():
        if left := [name for name in modules_with_weights(folder) if name not in modules_of(first)]:
            notes.append(f"{called}: {', '.join(left)}: is left out; the result has the modules of {first}")
    return common, notes


def _difference(first: Path, folder: Path, name: str, called: str) -> str | None:
    """Why the module of a folder cannot be merged with that of the first; None if it can."""
    if not (first / name / WEIGHTS_FILE).is_file():
        return f"they are not in {WEIGHTS_FILE}"
    if name not in modules_of(folder) or not (folder / name / WEIGHTS_FILE).is_file():
        return f"{called} has no {name}/{WEIGHTS_FILE}"
    if modules_of(folder)[name] != modules_of(first)[name]:
        return f"{called} has another type of module"
    if _settings(first / name) != _settings(folder / name):
        return f"{called} has another {name}/{CONFIG_FILE}"
    try:
        ours, theirs = _shapes(first / name), _shapes(folder / name)
    except (MergeError, OSError) as error:
        return f"they cannot be read ({error})"
    return None if ours == theirs else f"{called} has other tensors or shapes"


def _settings(module: Path) -> Any:
    try:
        return json.loads((module / CONFIG_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _shapes(module: Path) -> dict[str, tuple[int, ...]]:
    with TensorFolder(module / WEIGHTS_FILE) as held:
        return {name: held.info(name).shape for name in held}
