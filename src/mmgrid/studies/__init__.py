"""Studies of a grid, one file each, and what a study from another package needs; torch is imported only on use."""

from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, Part, Steps, Study, StudyGrid, StudySpec
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA, bounds, verdict
from mmgrid.studies.statistics.ranked import Ranked

__all__ = [
    "FINDINGS_SCHEMA",
    "Axis",
    "Context",
    "Part",
    "Plot",
    "Ranked",
    "Steps",
    "Study",
    "StudyGrid",
    "StudySpec",
    "bounds",
    "counts",
    "numbers",
    "texts",
    "verdict",
]
