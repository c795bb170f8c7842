"""What can be wrong with data, each with a type that a caller can catch and a message that says what to do."""


class DataError(ValueError):
    """The input data cannot be used as it is; the message names the file or domain and the remedy."""


class CalendarError(DataError):
    """The phases of a calendar are incomplete, reversed or overlap."""


class NoTestUsersError(DataError):
    """Nobody's last interaction lies in the phase to be tested."""


class LeakageError(ValueError):
    """Something that may know the data up to a time only was handed an interaction at or after it."""
