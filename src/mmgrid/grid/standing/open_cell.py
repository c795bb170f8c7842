"""Opens a built checkpoint, merge or family of a grid as a recommender, with the evaluation settings of the grid."""

from dataclasses import replace
from pathlib import Path

from mmgrid.grid.builders.checkpoint import evaluation_protocol
from mmgrid.grid.builders.vectors import embedder_of
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.cells.families import CHAIN
from mmgrid.grid.cells.stored import read_with
from mmgrid.grid.file.load import GridError
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.merging.models.family.member import open_member
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.facts import CheckpointFacts
from mmgrid.paradigms.recommender import Recommender

RECOMMENDS = ("checkpoint", "merge", "family")


def open_cell(grid: GridStore, name: str, domain: str | None = None) -> Recommender:
    """The recommender of the cell with this name.

    Args:
        domain: of a family: the one whose checkpoint is put together, in memory; of a chain, a phase. Unset, a chain is
            its newest phase.

    Raises:
        GridError: the grid has no such cell, or it is no model; or a domain is named and it is no family.
        MergeError: the family has no such domain, or several and none is named.
        FileNotFoundError: it is not built.
        DamagedFilesError: its files differ from its record.
    """
    cell = grid.cell(name)
    if cell.kind not in RECOMMENDS:
        raise GridError(f"{name}: is not a model; name a {', '.join(RECOMMENDS[:-1])} or {RECOMMENDS[-1]} cell")
    spec, paradigm = grid.grid.spec, cell.key[0]
    folder, member = _sound(grid, cell), _member(cell, domain)
    facts = replace(
        _declared(cell, folder, member),
        calendar=spec.phases.calendar(),
        catalogue=spec.data.catalogue,
        seed=cell.recipe.get("seed", spec.all_seeds[0]),
        threads=spec.threads_per_cell,
        evaluation=evaluation_protocol(grid.grid, paradigm),
    )
    embedder = None
    if PARADIGMS[paradigm].evaluation_needs and (backbone := _backbone(grid)):
        embedder = embedder_of(grid.grid, backbone)
    untrained = PARADIGMS[paradigm].recipe is None
    named = paradigm if untrained else None
    return Recommender(folder, domain=member, paradigm=named, embedder=embedder, facts=facts)


def _member(cell: Cell, domain: str | None) -> str | None:
    """The part of a family that serves a domain; None for other cells."""
    if cell.kind != "family":
        if domain is not None:
            raise GridError(f"{cell.name}: is no family, so it has no domain to choose")
        return None
    phases = chain_of(cell)
    return phases[-1] if phases and domain in (None, cell.key[2]) else domain


def chain_of(cell: Cell) -> list[str]:
    """The phases of a family that is a chain over time, oldest first; empty for other cells."""
    return list(cell.recipe["sources"]) if cell.kind == "family" and cell.recipe["shared"] == CHAIN else []


def _declared(cell: Cell, folder: Path, member: str | None) -> CheckpointFacts:
    if cell.kind != "family":
        return CheckpointFacts.read(folder)
    with open_member(folder, member) as opened:
        return CheckpointFacts.read(opened.checkpoint())


def corpus_folder(grid: GridStore, domain: str) -> Path:
    """The folder of a prepared domain. Same errors as `open_cell`."""
    return _sound(grid, grid.cell(f"corpus/{domain}"))


def domains_of(grid: GridStore, name: str) -> list[str]:
    """The domains of the checkpoints that a cell is made from."""
    cells = with_upstream([grid.cell(name)])
    return list(dict.fromkeys(cell.key[1] for cell in cells if cell.kind == "checkpoint"))


def _sound(grid: GridStore, cell: Cell) -> Path:
    """The folder of a built cell; the files that are read with it were compared with their records."""
    for read in read_with(cell):
        grid.folder(read)
        grid.store.sound(read.address)
    return grid.store.folder(cell.address)


def _backbone(grid: GridStore) -> Path | None:
    """The backbone that embeds texts; None if the grid has none, or uses an embedding model."""
    if grid.grid.spec.item_vectors.source == "sentence-transformers":
        return None
    found = next((above for above in with_upstream(grid.cells) if above.kind == "backbone"), None)
    return _sound(grid, found) if found and grid.store.has(found.address) else None
