"""Errors in data."""


class DataError(ValueError):
    """The input data is unusable; the message names the file or domain and the remedy."""


class CalendarError(DataError):
    """The phases of a calendar are incomplete, reversed or overlap."""


class NoTestUsersError(DataError):
    """No user's last interaction lies in the target phase."""


class DamagedError(DataError):
    """The bytes of a file are not what they were: it is cut off, damaged, or something else under its name."""


class LeakageError(ValueError):
    """Histories that must end before a time contain an interaction at or after it."""
