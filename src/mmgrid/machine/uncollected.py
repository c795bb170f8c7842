"""For what makes many objects at once, none of them in a cycle: modules, cells, records, the values of lines."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it, Python does not look for cycles of objects that nobody uses.

    It would go through all objects again and again while their number grows, and find nothing.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
