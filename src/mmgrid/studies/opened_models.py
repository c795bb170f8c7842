"""Models of several domains, opened so that they can be compared: without token rows that mean another code in each."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from mmgrid.merging.models.tensors import Tensors
from mmgrid.paradigms import PARADIGMS

Model = Path | Tensors


def opened_models(folders: Mapping[str, Path], paradigm: str, stack: ExitStack) -> dict[str, Model]:
    """Domain → its weights, without the domain's own token rows."""
    own = PARADIGMS[paradigm].own_token_rows
    return {domain: _without_own_rows(folder, stack) if own else folder for domain, folder in folders.items()}


def _without_own_rows(folder: Path, stack: ExitStack) -> Tensors:
    from mmgrid.merging import BlockTable
    from mmgrid.merging.models.sources import open_source
    from mmgrid.merging.models.token_blocks import BackboneRows

    table = BlockTable.read(folder)
    assert table is not None  # every checkpoint with its own token rows has a table of blocks
    return BackboneRows(stack.enter_context(open_source(folder)), table)
