"""From raw reviews to what a model may know at a time: phases, histories, test sets, statistics. No torch.

What parses files is imported when it is first used.
"""

from typing import TYPE_CHECKING

from mmgrid.data.calendar import PAPER_CALENDAR, PHASES, Calendar, Phase, format_time, milliseconds
from mmgrid.data.catalogue import catalogue_at
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import CalendarError, DataError, LeakageError, NoTestUsersError
from mmgrid.data.held_out import HeldOut, HeldOutUsers, Known, held_out, held_out_users, known_now
from mmgrid.data.histories import Histories
from mmgrid.data.items import Items
from mmgrid.data.joining import joined
from mmgrid.data.preparation import Dropped, Preparation, filter_interactions, prepare
from mmgrid.data.raw import RawDomain
from mmgrid.data.readers import READERS
from mmgrid.data.sampling import nested_order, nested_sample
from mmgrid.data.statistics import Statistics, interactions_by_month, statistics
from mmgrid.later import later

if TYPE_CHECKING:
    from mmgrid.data.readers.files import read_files

__all__ = [
    "PAPER_CALENDAR",
    "PHASES",
    "READERS",
    "Calendar",
    "CalendarError",
    "Corpus",
    "DataError",
    "Dropped",
    "HeldOut",
    "HeldOutUsers",
    "Histories",
    "Items",
    "Known",
    "LeakageError",
    "NoTestUsersError",
    "Phase",
    "Preparation",
    "RawDomain",
    "Statistics",
    "catalogue_at",
    "filter_interactions",
    "format_time",
    "held_out",
    "held_out_users",
    "interactions_by_month",
    "joined",
    "known_now",
    "milliseconds",
    "nested_order",
    "nested_sample",
    "prepare",
    "read_files",
    "statistics",
]

__getattr__ = later(__name__, {"read_files": "readers.files"})
