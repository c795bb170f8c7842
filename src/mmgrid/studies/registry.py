"""The studies by name.  A new study is one file beside this one, and one line here."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from mmgrid.studies import advise, base_model, baselines, cross_domain, recency, temporal, vectors
from mmgrid.studies.plot import Plot


@dataclass(frozen=True)
class Study:
    """What a study answers with.

    Attributes:
        name: what grid files and commands call it.
        title: its heading.
        source: the table or figure of the paper that it answers.
        tables: name of each of its tables → columns and types.
        plots: its figures.
    """

    name: str
    title: str
    source: str
    tables: Mapping[str, pl.Schema]
    plots: tuple[Plot, ...]


STUDIES = {
    study.name: study
    for study in (
        Study("baselines", "Baselines", "Table 2", baselines.TABLES, baselines.PLOTS),
        Study("vectors", "Task vectors", "Fig. 2", vectors.TABLES, vectors.PLOTS),
        Study("cross_domain", "Merging across domains", "Fig. 3", cross_domain.TABLES, cross_domain.PLOTS),
        Study("base_model", "Another base", "Fig. 4", base_model.TABLES, base_model.PLOTS),
        Study("temporal", "Merging across time", "Fig. 5", temporal.TABLES, temporal.PLOTS),
        Study("recency", "Item recency", "Table 4", recency.TABLES, recency.PLOTS),
        Study("advise", "λ predicted from the data", "Table 3", advise.TABLES, advise.PLOTS),
    )
}
