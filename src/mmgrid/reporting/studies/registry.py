"""The views by the study's name.  A study without one is shown by its figures and by tables of all its columns."""

from __future__ import annotations

import polars as pl

from mmgrid.reporting.studies import advise, base_model, baselines, cross_domain, recency, temporal, vectors
from mmgrid.reporting.studies.view import Frames, View, study_table
from mmgrid.reporting.tables.numbers import significant
from mmgrid.reporting.tables.tables import Column, Table
from mmgrid.studies.registry import STUDIES, Study

VIEWS = {
    "baselines": baselines.VIEW,
    "vectors": vectors.VIEW,
    "cross_domain": cross_domain.VIEW,
    "base_model": base_model.VIEW,
    "temporal": temporal.VIEW,
    "recency": recency.VIEW,
    "advise": advise.VIEW,
}


def view(name: str) -> View:
    """How the study is shown."""
    return VIEWS.get(name) or _plain(STUDIES[name])


def _plain(study: Study) -> View:
    def tables(frames: Frames) -> tuple[Table, ...]:
        found: list[Table] = []
        for name, schema in study.tables.items():
            if name == "findings" or "seed" not in schema:
                continue
            columns = [_plain_column(column, dtype) for column, dtype in schema.items() if column != "seed"]
            found += study_table(f"table-{study.name}-{name}", name.capitalize(), "", columns, frames[name])
        return tuple(found)

    return View(study.title, lambda frames: (), tables)


def _plain_column(name: str, dtype: pl.DataType) -> Column:
    label = name.replace("_", " ").capitalize()
    if dtype.is_float():
        return Column(name, label, render=significant)
    return Column(name, label, digits=0) if dtype.is_integer() else Column(name, label)
