"""The token rows of a domain's codes: how they are initialised, and how far training moved them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmgrid.backbone.load import load_model
from mmgrid.backbone.token_rows import append_token_rows, token_tables
from mmgrid.merging import BlockTable
from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.models.token_blocks import TokenBlock
from mmgrid.seeds import derive


def rows_seed(seed: int, block: str) -> int:
    """The seed from which the rows of a block are drawn."""
    return derive(seed, "semid", block)


def first_rows(base: Path, block: str, count: int, seed: int) -> np.ndarray:
    """The initial token rows of a block in a model over `base`, all tables end to end: float32 [tables · count, D]."""
    model = load_model(base)
    first = append_token_rows(model, count, rows_seed(seed, block))
    state = model.state_dict()
    return np.concatenate([state[name][first:].float().numpy() for name in token_tables(model)])


def moved_rows(
    checkpoints: Mapping[str, Mapping[str, Path]], base: Path, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Phase → domain → its token rows minus their initial values, all tables end to end: float32 [rows, width]."""
    initial: dict[str, np.ndarray] = {}
    moved: dict[str, dict[str, np.ndarray]] = {}
    for phase, by_domain in checkpoints.items():
        for domain, folder in by_domain.items():
            table = BlockTable.read(folder)
            assert table is not None  # every semid checkpoint declares its blocks
            block = table.blocks[-1]
            if block.name not in initial:
                initial[block.name] = first_rows(base, block.name, block.stop - block.start, seed)
            moved.setdefault(phase, {})[domain] = _rows(folder, table, block) - initial[block.name]
    return moved


def _rows(folder: Path, table: BlockTable, block: TokenBlock) -> np.ndarray:
    with open_source(folder) as tensors:
        return np.concatenate([_table_rows(tensors, name, block) for name in table.tensors])


def _table_rows(tensors: Tensors, name: str, block: TokenBlock) -> np.ndarray:
    info = tensors.info(name)
    width = info.shape[1]
    stored = tensors.read(name, block.start * width, block.stop * width)
    return widen(stored, info.dtype).reshape(-1, width)
