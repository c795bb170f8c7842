"""Questions asked of a grid, one file a study; nothing here imports torch before a study needs it."""

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
