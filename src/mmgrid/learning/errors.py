"""The error type of learned merges."""


class LearningError(ValueError):
    """A merge that cannot be learned; the message says what was wrong and what to do."""
