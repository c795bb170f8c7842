"""Questions asked of a grid, one file a study; nothing here imports torch before a study needs it."""

from mmgrid.studies.contract import Ask, Context, Part, Steps, Study, StudySpec
from mmgrid.studies.plot import Axis, Plot

__all__ = ["Ask", "Axis", "Context", "Part", "Plot", "Steps", "Study", "StudySpec"]
