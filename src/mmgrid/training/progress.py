"""The callback through which a training reports its progress. Imports no torch."""

from collections.abc import Callable

StepProgress = Callable[[int, int, float | None], None]
"""Called as `progress(step, steps, loss)`: optimizer steps done, steps in total, mean loss since the last call."""
