"""What studies declare: every figure draws columns that its table has."""

import pytest

from mmgrid.studies.plot import Plot
from mmgrid.studies.registry import STUDIES

PLOTS = {f"{study.name}/{plot.name}": (study, plot) for study in STUDIES.values() for plot in study.plots}
DERIVED = {"pair"}  # of the columns `first` and `second`


def _columns(plot: Plot) -> set[str]:
    named = {plot.x.column, plot.y.column, plot.colour.column, *plot.choices}
    return named | {plot.panel, plot.low, plot.high, plot.x_low, plot.x_high, plot.order, plot.label} - {""}


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_draws_columns_of_its_table(name: str) -> None:
    study, plot = PLOTS[name]
    assert _columns(plot) - DERIVED <= set(study.tables[plot.table])
    if plot.rules:
        table, column = plot.rules
        assert column in study.tables[table]
        assert {plot.panel, plot.colour.column, *plot.choices} <= set(study.tables[table])


def test_every_study_has_its_name_paradigms_and_seeds() -> None:
    for name, study in STUDIES.items():
        assert study.name == name
        assert all({"paradigm", "seed"} <= set(schema) for schema in study.tables.values())
