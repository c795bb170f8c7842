"""Files with several merges, of which some are the models of others (mergekit-multi)."""

import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.file import MergekitFile, parse_all
from mmgrid.merging.mergekit.model_name import ModelName
from mmgrid.merging.mergekit.read import MergekitRecipe, read_parsed


@dataclass(frozen=True)
class NamedMerge:
    """One of the merges of a file.

    Attributes:
        name: its name in the file; None for the one that has none.
        out: the folder that it is to be merged into.
        read: its recipe, and notes.
    """

    name: str | None
    out: Path
    read: MergekitRecipe


def count_merges(path: str | Path) -> int:
    """The number of merges in a file.

    Raises:
        MergeError: it is not a mergekit file.
    """
    return len(parse_all(Path(path)))


def read_merges(path: str | Path, out: str | Path, *, seed: int = 0) -> Iterator[NamedMerge]:
    """Reads the merges of a file in an order in which each comes after those that it uses.

    Each must be merged into its folder before the next one is asked for, because a recipe depends on the models' tensors.

    Args:
        path: the file, with one YAML document for each merge. A model that is called like one of the merges is that merge.
        out: the folder of the merge without a name. Those with a name are folders in `OUT-parts`, or in `out` if all
            merges have names.
        seed: seed of random methods.

    Raises:
        MergeError: as `read_mergekit`; or merges use each other in a circle, or a name is no name of a folder.
    """
    path, out = Path(path), Path(out).absolute()
    merges = {one.name: one for one in parse_all(path)}
    within = out.with_name(f"{out.name}-parts") if None in merges else out
    folders = {name: _folder(within, name, merges[name]) for name in merges if name is not None}
    uses = {name: {model.path for model in _models(one) if model.path in folders} for name, one in merges.items()}
    try:
        order = list(graphlib.TopologicalSorter(uses).static_order())
    except graphlib.CycleError as error:
        circle = ", ".join(str(name) for name in error.args[1])
        raise MergeError(f"{path}: name: merges use each other in a circle: {circle}") from error
    for name in order:
        done = {used: folders[used] for used in uses[name]}
        read = read_parsed(merges[name], path.absolute().parent, seed, done)
        yield NamedMerge(name, out if name is None else folders[name], read)


def _models(file: MergekitFile) -> Iterator[ModelName]:
    yield from (each.model for each in file.inputs)
    yield from (piece.base for piece in file.slices if piece.base is not None)


def _folder(within: Path, name: str, file: MergekitFile) -> Path:
    if not name or Path(name).name != name or name in (".", "..") or set("@+") & set(name):
        raise MergeError(
            f"{file.at('name')}: name: {name!r} must be a name for a folder, without slashes, @ and +, which have a meaning in "
            "names of models"
        )
    return within / name
