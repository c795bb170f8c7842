"""The calendar of a grid: four ordered, half-open time intervals that do not overlap.

Checkpoints are trained phase by phase and tested on the last one. The end of a phase (t0, t1, t2) limits what a model
may know, never a row count. Times are milliseconds since 1970, UTC.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from mmgrid.data.errors import CalendarError

PHASES = ("pretrain", "phase1", "phase2", "test")
"""Names of the phases, oldest first."""

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Phase:
    """A half-open interval [start, end) of time, in milliseconds since 1970, UTC."""

    name: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise CalendarError(
                f"phase {self.name!r}: its start {format_time(self.start)} must be before its end "
                f"{format_time(self.end)}; phases are half-open intervals [start, end)"
            )

    def __str__(self) -> str:
        return f"{self.name} [{format_time(self.start)}, {format_time(self.end)})"


@dataclass(frozen=True)
class Calendar:
    """The four phases, oldest first. Gaps between them are allowed; overlaps are a CalendarError."""

    pretrain: Phase
    phase1: Phase
    phase2: Phase
    test: Phase

    def __post_init__(self) -> None:
        for name, phase in zip(PHASES, self.phases, strict=True):
            if phase.name != name:
                raise CalendarError(f"phase {phase.name!r} is in the place of {name!r}")
        for earlier, later in zip(self.phases, self.phases[1:], strict=False):
            if earlier.end > later.start:
                raise CalendarError(
                    f"phases {earlier} and {later} overlap or are out of order: {earlier.name} must end "
                    f"({format_time(earlier.end)}) no later than {later.name} starts "
                    f"({format_time(later.start)})"
                )

    @classmethod
    def from_dates(cls, dates: Mapping[str, Sequence[str | date]]) -> Calendar:
        """A calendar from `{"pretrain": ["2008-07-01", "2013-07-01"], "phase1": [...], ...}`.

        Dates are ISO strings or `datetime.date`s (as TOML gives them), read as midnight UTC; a time of day is
        allowed. Raises CalendarError for a missing or unknown phase, an unreadable date, a reversed phase, or phases
        that overlap.
        """
        for name in dates:
            if name not in PHASES:
                near = difflib.get_close_matches(name, PHASES, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the phases are {', '.join(PHASES)}"
                raise CalendarError(f"phases.{name}: unknown phase; {hint}")
        missing = [name for name in PHASES if name not in dates]
        if missing:
            raise CalendarError(f"phases: {', '.join(missing)} missing; give each of {', '.join(PHASES)}")
        return cls(*(_phase(name, dates[name]) for name in PHASES))

    @property
    def phases(self) -> tuple[Phase, Phase, Phase, Phase]:
        """All four, oldest first."""
        return (self.pretrain, self.phase1, self.phase2, self.test)

    @property
    def t0(self) -> int:
        """End of pretrain, ms."""
        return self.pretrain.end

    @property
    def t1(self) -> int:
        """End of phase1, ms."""
        return self.phase1.end

    @property
    def t2(self) -> int:
        """End of phase2, ms: a tested model knows nothing from this time on."""
        return self.phase2.end

    def phase(self, name: str) -> Phase:
        """The phase with this name. Raises CalendarError if there is none."""
        if name not in PHASES:
            raise CalendarError(f"{name!r}: unknown phase; the phases are {', '.join(PHASES)}")
        return getattr(self, name)

    def as_dates(self) -> dict[str, list[str]]:
        """The argument of `from_dates`: name -> [start, end] as ISO strings."""
        return {phase.name: [format_time(phase.start), format_time(phase.end)] for phase in self.phases}


def milliseconds(value: str | date) -> int:
    """Milliseconds since 1970 of an ISO date or time, in UTC unless it names another zone.

    Raises CalendarError if it cannot be parsed.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise CalendarError(f"{value!r}: not a date; write it as 2022-07-01") from error
    elif not isinstance(value, date):
        raise CalendarError(f"{value!r}: not a date; write it as 2022-07-01")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    # Whole milliseconds: a float of seconds would round.
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000


def format_time(time_ms: int) -> str:
    """ISO date of a time in ms UTC, with the time of day unless it is midnight."""
    days, rest_ms = divmod(int(time_ms), DAY_MS)
    day = date.fromordinal(date(1970, 1, 1).toordinal() + days).isoformat()
    if rest_ms == 0:
        return day
    seconds, rest_ms = divmod(rest_ms, 1000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{day}T{clock}.{rest_ms:03d}" if rest_ms else f"{day}T{clock}"


def _phase(name: str, dates: Sequence[str | date]) -> Phase:
    if isinstance(dates, str) or len(dates) != 2:
        raise CalendarError(f"phases.{name}: expected [start, end], got {dates!r}")
    try:
        start, end = (milliseconds(value) for value in dates)
    except CalendarError as error:
        raise CalendarError(f"phases.{name}: {error}") from error
    return Phase(name, start, end)


PAPER_CALENDAR = Calendar.from_dates(
    {
        "pretrain": ["2017-07-01", "2022-07-01"],
        "phase1": ["2022-07-01", "2022-10-01"],
        "phase2": ["2022-10-01", "2023-01-01"],
        "test": ["2023-01-01", "2023-04-01"],
    }
)
"""The phases of the paper, on Amazon Reviews 2023."""
