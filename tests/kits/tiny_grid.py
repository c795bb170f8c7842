"""A grid small enough to build in a test, and the command line as a function.

The data are synthetic, so nothing is downloaded. Tests that need another grid change single values, as `--set` does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmgrid.data.synthetic import World, WorldDomain, write_world
from mmgrid.files import sha256_file
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.expand import expand
from mmgrid.grid.file.load import Grid, load_grid
from mmgrid.runners import run_local
from mmgrid.store import Store

GRID_FILE = "tiny.toml"
TEXT = """\
name = "tiny"

[data]
format = "synthetic"
domains = ["garden", "kitchen"]

[data.synthetic]
users = 150
items = 120
mean_interactions = 10

[phases]
pretrain = ["2017-07-01", "2022-07-01"]
phase1   = ["2022-07-01", "2022-10-01"]
phase2   = ["2022-10-01", "2023-01-01"]
test     = ["2023-01-01", "2023-04-01"]

[backbone]
kind = "tiny"
corpus = ["garden", "kitchen"]
hidden_size = 32
layers = 2
intermediate_size = 64
heads = 2
key_value_heads = 1
vocabulary = 600
steps = 40
batch_rows = 8
row_tokens = 32

[paradigms.semb]
text_tokens = 32
title_tokens = 32
negatives = 16
batch_size = 4
epochs = 1
least_steps = 0

[paradigms.sasrec]
epochs = 2

[[merges]]
kind = "cross_domain"
"""

# The same grid with a third domain, and every study with few points. Cells that are in both grids are the same.
STUDIED = (
    TEXT.replace('domains = ["garden", "kitchen"]', 'domains = ["attic", "garden", "kitchen"]').replace(
        '[[merges]]\nkind = "cross_domain"\n', ""
    )
    + """\
[[studies]]
kind = "baselines"

[[studies]]
kind = "vectors"

[[studies]]
kind  = "cross_domain"
draws = 1

[[studies]]
kind   = "base_model"
alphas = { from = 0.0, to = 1.0, step = 0.5 }
draws  = 1
pairs  = [["garden", "kitchen"]]

[[studies]]
kind   = "temporal"
scales = { from = -0.5, to = 1.5, step = 0.5 }

[[studies]]
kind = "recency"

[[studies]]
kind = "advise"

[[studies]]
kind = "temporal_parts"
per  = ["tower", "group"]
"""
)

# The same two domains and backbone with the generative paradigms, and the studies that merge their models.
SPOKEN = (
    TEXT[: TEXT.index("[paradigms.semb]")]
    + """[paradigms.text]
title_tokens = 8
text_tokens = 8
history_length = 4
titles = 2
batch_size = 16
epochs = 0.5

[paradigms.semid]
title_tokens = 8
text_tokens = 8
history_length = 4
batch_size = 16
epochs = 0.5

[semantic_ids.quantiser]
kind = "residual_kmeans"
levels = 3
codes = 8

[evaluation]
max_users = 12

[[studies]]
kind = "baselines"

[[studies]]
kind = "vectors"

[[studies]]
kind  = "cross_domain"
draws = 1

[[studies]]
kind   = "base_model"
alphas = { from = 0.0, to = 1.0, step = 0.5 }
draws  = 1

[[studies]]
kind   = "temporal"
scales = { from = 0.0, to = 2.0, step = 0.5 }

[[studies]]
kind = "advise"
"""
)

# The same two domains as raw files that a test may damage; its baselines need no torch.
RAW_TEXT = (
    """\
name = "raw"

[data]
format = "amazon2023"
root = "raw"
domains = ["garden", "kitchen"]
"""
    + TEXT[TEXT.index("\n[phases]") : TEXT.index("[backbone]")]
    + """\
[backbone]
kind = "tiny"

[paradigms.sasrec]
"""
)
BASELINES = "evaluation/baseline/*"


@dataclass(frozen=True)
class Built:
    """A grid file, and the store with all its cells built."""

    file: Path
    root: Path

    @property
    def grid(self) -> Grid:
        return load_grid(self.file)

    @property
    def store(self) -> Store:
        return Store(self.root)

    @property
    def cells(self) -> list[Cell]:
        return cells_of(self.grid)

    def folder(self, name: str) -> Path:
        """The folder of the cell with this name."""
        return self.store.folder(named(self.cells, name).address)

    def copy(self, to: Path) -> Built:
        """A copy that a test may change."""
        shutil.copytree(self.root, to / "runs")
        shutil.copy(self.file, to / self.file.name)
        return Built(to / self.file.name, to / "runs")

    def grown(self, to: Path, text: str, jobs: int = 2) -> Built:
        """A copy with another grid file, of which all cells are built."""
        found = self.copy(to)
        write_grid(to, text)
        outcome = run_local(found.cells, found.grid, found.store, jobs=jobs)
        assert outcome.complete, outcome
        return found


@dataclass(frozen=True)
class Answer:
    """The output of a command, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """What `run --json` prints: events, and at last the outcome."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def outcome(self) -> Any:
        """The lists of `run --json`."""
        assert self.lines[-1]["event"] == "end"
        return {key: value for key, value in self.lines[-1].items() if key != "event"}


def write_grid(folder: Path, text: str = TEXT) -> Path:
    """Writes the grid file to `folder`; returns its path."""
    file = folder / GRID_FILE
    file.write_text(text)
    return file


def write_raw_grid(folder: Path) -> Path:
    """Writes the grid of raw files to `folder`, with the raw files; returns the path of the grid file."""
    for domain in ("garden", "kitchen"):
        write_world(World((WorldDomain(domain, users=150, items=120, mean_interactions=10),)), domain, folder / "raw")
    return write_grid(folder, RAW_TEXT)


def cells_of(grid: Grid) -> list[Cell]:
    """The grid's cells in the order in which they are built."""
    return expand(grid, sha256_file)


def planned(folder: Path, *settings: str, text: str = TEXT) -> list[Cell]:
    """The cells of the grid `text` with `settings` (such as "data.max_users=50")."""
    return cells_of(load_grid(write_grid(folder, text), settings))


def named(cells: list[Cell], name: str) -> Cell:
    """The cell with this name."""
    (found,) = (cell for cell in cells if cell.name == name)
    return found


def fingerprints(cells: list[Cell]) -> dict[str, str]:
    """Fingerprints by name of the cell."""
    assert len({cell.name for cell in cells}) == len(cells)
    return {cell.name: cell.fingerprint for cell in cells}


def contents(root: Path, *kinds: str) -> dict[str, dict[str, str]]:
    """Cell → file → recorded SHA-256, for all cells of these kinds (default: all kinds) in a store."""
    return {
        f"{address.name} {address.fingerprint}": {path: entry.sha256 for path, entry in record.files.items()}
        for address, _, record in Store(root).entries()
        if not kinds or address.kind in kinds
    }


def bytes_below(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mmgrid(*arguments: object, environment: Mapping[str, str] | None = None) -> Answer:
    """Calls the command `mmgrid` in this process, as its console script does."""
    from mmgrid.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", ["mmgrid", *map(str, arguments)]),
        patch.dict(os.environ, environment or {}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Answer(code, out.getvalue(), err.getvalue())
