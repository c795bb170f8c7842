"""How far the token rows of semid's domains moved from where they were drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmgrid.merging import BlockTable, TensorFolder
from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.models.token_blocks import Block
from mmgrid.paradigms.semid.paradigm import first_rows


def moved_rows(
    checkpoints: Mapping[str, Mapping[str, Path]], base: Path, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Phase → domain → its own token rows less those it began with, float32 [rows, width], of all tables end to end."""
    began: dict[str, np.ndarray] = {}
    moved: dict[str, dict[str, np.ndarray]] = {}
    for phase, by_domain in checkpoints.items():
        for domain, folder in by_domain.items():
            table = BlockTable.read(folder)
            assert table is not None  # a checkpoint of semid names its blocks
            block = table.blocks[-1]
            if block.name not in began:
                began[block.name] = first_rows(base, block.name, block.stop - block.start, seed)
            moved.setdefault(phase, {})[domain] = _rows(folder, table, block) - began[block.name]
    return moved


def _rows(folder: Path, table: BlockTable, block: Block) -> np.ndarray:
    with TensorFolder(folder) as tensors:
        return np.concatenate([_table_rows(tensors, name, block) for name in table.tensors])


def _table_rows(tensors: TensorFolder, name: str, block: Block) -> np.ndarray:
    info = tensors.info(name)
    width = info.shape[1]
    stored = tensors.read(name, block.start * width, block.stop * width)
    return widen(stored, info.dtype).reshape(-1, width)
