"""Puts a model into a family as a plain checkpoint, or notes where it lies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mmgrid.families.files import facts_of, files_of, sample_of
from mmgrid.families.pair import Stored
from mmgrid.files import name_of
from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, Chunk, chunks_of
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.digests import Hashing
from mmgrid.merging.models.family.file import FileFacts, ModelPlace
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorFolder, Tensors
from mmgrid.merging.models.weight_files import INDEX_FILE, WEIGHTS_FILE


def check_folder(key: str, path: Path) -> None:
    """Check that what parts build on is a folder: a family names its files by their places below it.

    Raises:
        MergeError: it is a file.
    """
    if path.is_file():
        raise MergeError(f"{key}: {path}: is a file; give the model's folder, {path.parent}")


def put_model(source: Source, path: Path, folder: Path, workers: int) -> None:
    """Write a model as a plain checkpoint: its weights, and the files beside them.

    Args:
        source: the open model. path: as the recipe names it.
        folder: does not exist yet.
    """
    folder.mkdir()
    if isinstance(source, TensorFolder):
        for file in source.files:
            name = file.name if len(source.files) > 1 else WEIGHTS_FILE
            shutil.copyfile(file, folder / name)
        if len(source.files) > 1:
            shutil.copyfile(path / INDEX_FILE, folder / INDEX_FILE)
    else:
        write_tensors(Stored(source), folder / WEIGHTS_FILE, workers)
    for name, file in files_of(source, path).items():
        shutil.copyfile(file, folder / name)


def write_tensors(tensors: Tensors, file: Path, workers: int) -> None:
    """Write all tensors to a new safetensors file, run by run."""
    infos = {name: tensors.info(name) for name in tensors}
    with TensorWriter(file, infos) as writer:

        def copy(chunk: Chunk) -> None:
            with frame():
                writer.write(chunk.tensor, chunk.start, tensors.read(chunk.tensor, chunk.start, chunk.stop))

        for_each(runs_of(tensors), copy, workers)


def runs_of(tensors: Tensors) -> list[Chunk]:
    """All elements of all tensors, in runs."""
    return [chunk for name in tensors for chunk in chunks_of(name, tensors.info(name).size, CHUNK_ELEMENTS)]


def inside(folder: Path, family: Path, weights: list[Path]) -> ModelPlace:
    """The place of a model that lies in the family."""
    return ModelPlace(path=folder.relative_to(family).as_posix(), files={file.name: facts_of(file) for file in weights})


def elsewhere(path: Path, weights: list[Path], place: Path, workers: int) -> ModelPlace:
    """The place of a model that stays where it is.

    place: the final folder of the family, from which its path is counted.
    """
    hub = name_of(path)
    told = str(hub) if hub is not None else os.path.relpath(path, place).replace(os.sep, "/")
    with Hashing(weights, workers, ["blake3"]) as hashing:
        digests = hashing.of(weights)
    facts = {
        _place_in(path, file): FileFacts(
            bytes=file.stat().st_size, blake3=digests[file.name]["blake3"], content=sample_of(file)
        )
        for file in weights
    }
    return ModelPlace(path=told, files=facts)


def _place_in(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix() if folder in file.parents else file.name
