"""The kit of tests that every study passes.

Subclass `StudyKit` in a test file and define the fixture `case`: a grid file with the study, and a store in which its
cells are built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl
import pytest

from mmgrid.files import sha256_file
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.expand import expand
from mmgrid.grid.file.load import load_grid
from mmgrid.grid.standing.results import study_tables
from mmgrid.grid.standing.state import survey
from mmgrid.reporting.studies.registry import view
from mmgrid.runners import run_local
from mmgrid.store import Store
from mmgrid.studies.contract import Study, replaced
from mmgrid.studies.registry import STUDIES
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA


@dataclass(frozen=True)
class StudyCase:
    """A study in a built grid. `store` may contain other cells, too."""

    study: Study
    grid_file: Path
    store: Path

    @classmethod
    def build(cls, name: str, grid: str, folder: Path) -> Self:
        """Build a grid with the study in `folder`; grid: the text of the grid file."""
        file, store = folder / "grid.toml", Store(folder / "runs")
        file.write_text(grid, encoding="utf-8")
        loaded = load_grid(file)
        outcome = run_local(expand(loaded, sha256_file), loaded, store, jobs=1)
        assert outcome.complete, outcome
        return cls(STUDIES[name], file, store.root)

    @property
    def cells(self) -> list[Cell]:
        """The study's own cells, one per paradigm and seed."""
        cells = expand(load_grid(self.grid_file), sha256_file)
        return [cell for cell in cells if cell.kind == "study" and cell.key[0] == self.study.name]

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """Its tables, with the rows of all paradigms and seeds."""
        store = Store(self.store)
        records, _ = survey(self.cells, store)
        return study_tables(records, store)[self.study.name]


class StudyKit:
    """Tests that hold for every study; a subclass defines the fixture `case`."""

    def test_it_is_installed_under_its_name(self, case: StudyCase) -> None:
        assert STUDIES[case.study.name] is case.study
        assert case.study.title

    def test_its_needs_are_its_upstream(self, case: StudyCase) -> None:
        for cell in case.cells:
            found: list[Cell] = []
            replaced(cell.needs, Cell, found.append)
            assert {needed.name for needed in found} == set(cell.upstream)

    def test_the_same_grid_gives_the_same_cells(self, case: StudyCase) -> None:
        assert [cell.fingerprint for cell in case.cells] == [cell.fingerprint for cell in case.cells]

    def test_its_tables_are_those_that_it_declares(self, case: StudyCase) -> None:
        for name, frame in case.tables.items():
            assert frame.schema == case.study.tables[name]
        assert case.tables.keys() == case.study.tables.keys()

    def test_some_table_has_rows(self, case: StudyCase) -> None:
        assert any(frame.height for frame in case.tables.values())

    def test_its_findings_have_the_usual_columns(self, case: StudyCase) -> None:
        if "findings" not in case.study.tables:
            pytest.skip("the study judges no claim")
        assert case.study.tables["findings"] == FINDINGS_SCHEMA
        assert set(case.tables["findings"]["verdict"]) <= {"reproduced", "not reproduced", "undecided"}

    def test_its_figures_draw_existing_columns(self, case: StudyCase) -> None:
        for plot in case.study.plots:
            columns = case.study.tables[plot.table].names()
            named = [plot.x.column, plot.y.column, plot.colour.column, plot.low, plot.high, plot.x_low, plot.x_high]
            assert {name for name in (*named, plot.order, *plot.choices) if name} <= set(columns)

    def test_the_report_can_show_it(self, case: StudyCase) -> None:
        shown = view(case.study.name)
        assert shown.name
        assert all(table.frame.height for table in shown.tables(case.tables))
        assert all(paragraph.text for paragraph in shown.paragraphs(case.tables))
