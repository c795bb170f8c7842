"""What `import mmgrid` offers next to merging: grids and recommenders, each in one call with plain arguments."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import polars as pl

    from mmgrid.grid.file.load import Grid
    from mmgrid.grid.standing.grid_store import GridStore
    from mmgrid.paradigms.recommender import Recommender
    from mmgrid.runners import EventCallback, RunOutcome

_LOG = logging.getLogger(__name__)
SHOWN_FAILURES = 5


class RunFailedError(RuntimeError):
    """Cells of a run failed; the message names them with their errors.

    outcome: the `RunOutcome` of the run.
    """

    def __init__(self, outcome: RunOutcome) -> None:
        self.outcome = outcome
        failed = list(outcome.failed.items())
        lines = [f"  {name}: {error}" for name, error in failed[:SHOWN_FAILURES]]
        if len(failed) > SHOWN_FAILURES:
            lines.append(f"  and {len(failed) - SHOWN_FAILURES} more")
        super().__init__(
            f"{len(failed)} cells failed, and {len(outcome.blocked)} that depend on them were not built. "
            "What is built stays: fix the errors and run again.\n" + "\n".join(lines)
        )


def methods() -> dict[str, str]:
    """The installed merge methods: name → formula in one line.

    `mmgrid.merging.METHODS[name]` is the method itself, with its options and its paper.
    """
    from mmgrid.merging.methods import METHODS

    return {name: method.formula for name, method in METHODS.working().items()}


def run(
    grid: Grid | str | Path,
    *,
    store: str | Path | None = None,
    only: str | Sequence[str] = (),
    jobs: int | None = None,
    watch: EventCallback | None = None,
    check: bool = True,
) -> RunOutcome:
    """Build the cells of a grid that are missing in the store.

    The cells are built in new processes, which import the calling script once more. So a script must call this function
    below `if __name__ == "__main__":`; a notebook need not.

    Args:
        grid: from `load_grid`, or the grid file.
        store: the folder of built cells; created if it is absent. Default: `runs` beside the grid file; until there is
            one, a store `runs` one folder above it or in the working directory.
        only: patterns of cell names, such as "evaluation/baseline/*"; the cells that they depend on are built, too.
            Default: all cells.
        jobs: cells built at a time. Default: available cores divided by the grid's `threads_per_cell`.
        watch: called with a `mmgrid.runners.CellEvent` whenever the state of a cell changes; `print` will do.
        check: raise RunFailedError if cells failed. With False, see `failed` and `blocked` of the outcome.

    Returns:
        The names of the cells that were built, were in the store already, failed, or were blocked by failed ones.

    Raises:
        RunFailedError: cells failed; all others are built.
        GridError: the grid file is wrong, or no cell fits `only`.
        StoreError: the folder is not a store.
    """
    from mmgrid.runners import run_local

    view = _view(grid, store)
    cells = view.chosen([only] if isinstance(only, str) else only)
    outcome = run_local(cells, view.grid, view.store, jobs=jobs, on_event=watch, of_grid=view.cells)
    if check and not outcome.complete:
        raise RunFailedError(outcome)
    return outcome


@overload
def results(grid: Grid | str | Path, study: None = None, *, store: str | Path | None = None) -> pl.DataFrame: ...
@overload
def results(grid: Grid | str | Path, study: str, *, store: str | Path | None = None) -> dict[str, pl.DataFrame]: ...
def results(
    grid: Grid | str | Path, study: str | None = None, *, store: str | Path | None = None
) -> pl.DataFrame | dict[str, pl.DataFrame]:
    """The results of the cells that are built, or the tables of a study.

    Args:
        grid: from `load_grid`, or the grid file.
        study: name of a study of the grid, such as "temporal".
        store: the folder of built cells. Default: as for `run`.

    Returns:
        One row per evaluated model, group of users and metric (`mmgrid.evaluation.RESULTS_SCHEMA`): `value` with the
        bounds `low` and `high` of its 95 % interval, all in percent. With a study: its tables by name.

    Raises:
        GridError: the grid file is wrong, or the study is not in the grid.
        FileNotFoundError: the study is not built.
        StoreError: the folder is not a store.
    """
    from mmgrid.grid.standing.results import results_table

    view = _view(grid, store)
    _warn_of_damage(view)
    return results_table(view.records, view.store) if study is None else view.study_tables(study)


def report(
    grid: Grid | str | Path,
    out: str | Path | None = None,
    *,
    store: str | Path | None = None,
    figures: str | Path | None = None,
) -> Path:
    """Write the report of a grid: one HTML file that opens without a network.

    Args:
        grid: from `load_grid`, or the grid file.
        out: the HTML file. Default: called after the grid, in the working directory.
        store: the folder of built cells. Default: as for `run`.
        figures: a folder for all figures as SVG and PDF. Default: they are not written.

    Returns:
        The path of the HTML file.

    Raises:
        GridError: the grid file is wrong.
        StoreError: the folder is not a store.
        DiskFull, NotWritableError: a file cannot be written; no older file is replaced then.
        FileExistsError: the default file exists and is not a report.
    """
    from mmgrid.reporting import default_report, publish_report
    from mmgrid.reporting.of_grid import grid_tables

    view = _view(grid, store)
    _warn_of_damage(view)
    file = default_report(view.grid.spec.name) if out is None else Path(out)
    tables = grid_tables(view, _as_typed(view.grid.file))
    publish_report(tables, file, None if figures is None else Path(figures))
    return file


def cell_folder(grid: Grid | str | Path, cell: str, *, store: str | Path | None = None) -> Path:
    """The folder of a built cell, such as "corpus/garden": the data of a domain, which `Recommender` takes.

    Args:
        grid: from `load_grid`, or the grid file.
        cell: its name, as `mmgrid plan` prints it.
        store: the folder of built cells. Default: as for `run`.

    Raises:
        GridError: the grid file is wrong, or the grid has no such cell.
        FileNotFoundError: the cell is not built.
        StoreError: the folder is not a store.
    """
    view = _view(grid, store)
    return view.folder(view.cell(cell))


def open_checkpoint(
    checkpoint: str | Path,
    *,
    domain: str | None = None,
    grid: Grid | str | Path | None = None,
    store: str | Path | None = None,
) -> Recommender:
    """Open a checkpoint, a merge of several, or a domain of a family. Its weights are read when they are first needed.

    Args:
        checkpoint: its folder, or its name on the Hub, `ORG/NAME[@REVISION]`; with `grid` the name of a cell of the grid,
            such as "checkpoint/semb/garden/phase2".
        domain: of a family of several domains: the one whose checkpoint is put together, in memory.
        grid: from `load_grid`, or the grid file. The cell is then evaluated exactly as the grid evaluates it.
        store: the folder of the grid's built cells. Default: as for `run`.

    Returns:
        A recommender: `recommend` takes histories of item ids, `evaluate` ranks the held-out interactions of a domain.

    Raises:
        CheckpointError: there is no such folder, or a domain is named and it is no family.
        HubError: the Hub gives no such model.
        MergeError: the family has no such domain, or several and none is named.
        GridError: the grid file is wrong, the grid has no such cell, or the cell is no model.
        FileNotFoundError: the cell is not built.
        StoreError: `store` is not a store.
    """
    from mmgrid.grid.standing.open_cell import open_cell
    from mmgrid.paradigms.recommender import Recommender

    if grid is None:
        return Recommender(checkpoint, domain=domain)
    return open_cell(_view(grid, store), str(checkpoint), domain)


def push(
    model: str | Path,
    repo: str,
    *,
    grid: Grid | str | Path | None = None,
    store: str | Path | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Publish a checkpoint or a merge on the Hugging Face Hub, with a model card.

    Args:
        model: its folder; with `grid` the name or the folder of a cell, whose results are then in the card.
        repo: NAME or ORG/NAME; created if it does not exist.
        grid: from `load_grid`, or the grid file.
        store: the folder of the grid's built cells. Default: as for `run`.
        private: create it as a private one.
        revision: the branch; created if it does not exist. Default: main.
        message: of the commit.

    Returns:
        The address of its page.

    Raises:
        HubError: the folder holds no model, or the Hub refuses; the message says what to do.
        GridError: the grid file is wrong, or the grid has no such cell.
        FileNotFoundError: the cell is not built.
    """
    from mmgrid.hub import push as publish
    from mmgrid.hub.of_grid import model_of_grid

    if grid is None:
        return publish(model, repo, private=private, revision=revision, message=message).url
    cell = model_of_grid(_view(grid, store), str(model))
    return publish(
        cell.folder,
        repo,
        private=private,
        revision=revision,
        message=message or f"Publish {model} by mmgrid",
        measured=cell.measured,
        origin=cell.origin,
    ).url


def pull(repo: str, out: str | Path | None = None) -> Path:
    """Fetch a model from the Hugging Face Hub, and check its digests. A call that was cut is continued by the same call.

    Args:
        repo: ORG/NAME, or ORG/NAME@REVISION.
        out: the new folder. Default: NAME in the working directory.

    Returns:
        The folder, which appears complete or not at all.

    Raises:
        HubError: the Hub does not give it, it is no model, or a file is not what was published.
        FileExistsError: the folder exists already.
        DiskFull, NotWritableError: it cannot be written.
    """
    from mmgrid.hub import pull as fetch

    return fetch(repo, out).folder


def import_checkpoint(
    source: str | Path, out: str | Path, layout: str, options: Mapping[str, Any] | None = None
) -> Path:
    """Make a checkpoint of this project from one in the layout of another project.

    Args:
        source: the foreign checkpoint: a folder, or its file of weights.
        out: the folder to write; must be absent or empty.
        layout: its name, such as "hllm".
        options: what the layout lacks; `mmgrid import --from LAYOUT --options` lists them.

    Returns:
        The folder.

    Raises:
        LayoutError: there is no such layout, an option is wrong, or the checkpoint would score differently here.
        FileExistsError: `out` is not empty.
    """
    from mmgrid.paradigms.layouts import import_checkpoint as convert

    return convert(source, out, layout, options)


def export_checkpoint(
    checkpoint: str | Path,
    out: str | Path,
    layout: str,
    options: Mapping[str, Any] | None = None,
    *,
    grid: Grid | str | Path | None = None,
    store: str | Path | None = None,
) -> list[str]:
    """Write a checkpoint of this project in the layout of another project.

    Args:
        checkpoint: its folder; with `grid` the name of a cell of the grid.
        out: the folder to write; must be absent or empty.
        layout: its name, such as "hllm".
        options: of the layout.
        grid: from `load_grid`, or the grid file.
        store: the folder of the grid's built cells. Default: as for `run`.

    Returns:
        What a user of the other project must know, one line each.

    Raises:
        LayoutError: there is no such layout, an option is wrong, or the layout cannot express the checkpoint.
        CheckpointError: there is no such checkpoint.
        FileExistsError: `out` is not empty.
    """
    from mmgrid.paradigms.layouts import export_checkpoint as convert

    opened = open_checkpoint(checkpoint, grid=grid, store=store)
    return convert(opened.folder, out, layout, options)


def _view(grid: Grid | str | Path, store: str | Path | None) -> GridStore:
    """The grid next to its store as it is now."""
    from mmgrid.grid.standing.grid_store import GridStore

    return GridStore.open(grid, None if store is None else Path(store).expanduser())


def _warn_of_damage(view: GridStore) -> None:
    for problem in view.damaged.values():
        _LOG.warning("%s", problem)


def _as_typed(file: Path) -> str:
    """The path as a user would type it: relative if the file is below the working directory."""
    whole, here = Path(os.path.abspath(file)), Path.cwd()  # noqa: PTH100 - links stay as they are
    return str(whole.relative_to(here) if whole.is_relative_to(here) else file)
