"""Compares models: norms, cosines, sign conflicts and equal weights, per tensor, layer, tower and in total.

With a base, the numbers are those of the task vectors τ = θ − θ₀. Every tensor is read once, run by run.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, chunks_of
from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.arrays.names import OUTSIDE, layer_of, tower_of
from mmgrid.merging.arrays.parallel import default_workers, for_each
from mmgrid.merging.engine.model_sums import ModelPair, SumCollector, Sums, added, no_sums
from mmgrid.merging.engine.progress import MergeProgress
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.sources import found, open_source
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.plan.plan import BASE

__all__ = ["Comparison", "ModelPair", "Sums", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The comparison of several models.

    Attributes:
        models: their names, in the order of `Sums`.
        of_task_vectors: whether a base was subtracted.
        whole: sums over all floating-point tensors that every model (and the base) has in the same shape.
        towers: tower → its sums.
        layers: (tower, layer or `outside`) → its sums.
        tensors: tensor → its sums.
        whole_numbers: tensor of whole numbers → whether it is equal in all models.
        left_out: tensor → why it could not be compared.
    """

    models: tuple[str, ...]
    of_task_vectors: bool
    whole: Sums
    towers: Mapping[str, Sums]
    layers: Mapping[tuple[str, str], Sums]
    tensors: Mapping[str, Sums]
    whole_numbers: Mapping[str, bool] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def compare(
    a: str | Path | Tensors,
    b: str | Path | Tensors,
    *more: str | Path | Tensors,
    base: str | Path | Tensors | None = None,
    names: Sequence[str] | None = None,
    workers: int | None = None,
    progress: MergeProgress | None = None,
) -> Comparison:
    """Compare two or more models, each with each.

    Args:
        a, b, more: folders (of models or adapters), safetensors files, names on the Hub, or open tensors.
        base: θ₀; the numbers are then those of task vectors.
        names: names of the models. Default: a, b, c, …
        workers: number of threads; does not change the result. Default: one per core.
        progress: called after each tensor with bytes read, bytes in all, and the tensor's name.

    Raises:
        MergeError: a model cannot be read, contains NaN or an infinity, or has no tensor in common with the others.
    """
    given = (a, b, *more)
    called = tuple(names) if names is not None else tuple(_letters(len(given)))
    if len(called) != len(given) or len(set(called)) < len(called):
        raise MergeError(f"names: {len(given)} models need {len(given)} different names, not {', '.join(called)}")
    with contextlib.ExitStack() as stack:

        def opened(model: str | Path | Tensors) -> Tensors:
            if isinstance(model, str | Path):
                base_path = found(Path(base)) if isinstance(base, str | Path) else None
                return stack.enter_context(open_source(found(Path(model)), base=base_path))
            return model

        models = {name: opened(model) for name, model in zip(called, given, strict=True)}
        return _compared(models, None if base is None else opened(base), workers or default_workers(), progress)


def _compared(
    models: Mapping[str, Tensors], base: Tensors | None, workers: int, progress: MergeProgress | None
) -> Comparison:
    floats, integers, left_out = _comparable(models, base)
    if not floats and not integers:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise MergeError(f"nothing can be compared: the models have no tensor in common ({why})")
    first, n = next(iter(models.values())), len(models)
    sizes = {name: first.info(name).size for name in floats}
    collector = SumCollector(models, base, sizes, progress)
    chunks = [chunk for name in floats for chunk in chunks_of(name, sizes[name], CHUNK_ELEMENTS)]
    for_each(chunks, collector.take, workers)
    tensors = {name: collector.sums.get(name) or no_sums(n) for name in floats}
    towers: dict[str, list[Sums]] = {}
    layers: dict[tuple[str, str], list[Sums]] = {}
    for name, sums in tensors.items():
        layer = layer_of(name)
        towers.setdefault(tower_of(name), []).append(sums)
        layers.setdefault((tower_of(name), OUTSIDE if layer is None else str(layer)), []).append(sums)
    in_order = sorted(layers, key=lambda key: (key[0], key[1] == OUTSIDE, key[1].zfill(6)))
    return Comparison(
        models=tuple(models),
        of_task_vectors=base is not None,
        whole=added(list(tensors.values()), n),
        towers={tower: added(towers[tower], n) for tower in sorted(towers)},
        layers={key: added(layers[key], n) for key in in_order},
        tensors=tensors,
        whole_numbers={name: _are_equal(models, name) for name in integers},
        left_out=left_out,
    )


def _comparable(models: Mapping[str, Tensors], base: Tensors | None) -> tuple[list[str], list[str], dict[str, str]]:
    """Floating-point tensors, tensors of whole numbers, and the reason for each tensor that cannot be compared."""
    floats, integers, left_out = [], [], {}
    for name in sorted({name for tensors in models.values() for name in tensors}):
        lacking = [model for model, tensors in models.items() if name not in tensors]
        infos = {model: tensors.info(name) for model, tensors in models.items() if name in tensors}
        if base is not None and is_float(next(iter(infos.values())).dtype):
            lacking += [] if name in base else [BASE]
            infos |= {BASE: base.info(name)} if name in base else {}
        if lacking:
            left_out[name] = f"{' and '.join(lacking)} lack{'s' * (len(lacking) == 1)} it"
        elif len({info.shape for info in infos.values()}) > 1:
            left_out[name] = "shapes differ: " + ", ".join(f"{model} {list(i.shape)}" for model, i in infos.items())
        elif len({is_float(info.dtype) for info in infos.values()}) > 1:
            left_out[name] = "types differ: " + ", ".join(f"{model} {info.dtype}" for model, info in infos.items())
        else:
            (floats if is_float(infos[next(iter(models))].dtype) else integers).append(name)
    return floats, integers, left_out


def _are_equal(models: Mapping[str, Tensors], name: str) -> bool:
    first, *others = (tensors.read(name, 0, tensors.info(name).size) for tensors in models.values())
    return all(np.array_equal(first, other) for other in others)


def _letters(n: int) -> list[str]:
    return [chr(ord("a") + number) if n <= 26 else f"model{number}" for number in range(n)]
