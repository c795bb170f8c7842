"""The error type of searches."""


class SearchError(ValueError):
    """A search that cannot be run; the message says what was wrong and what to do."""
