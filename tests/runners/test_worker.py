"""The line that a worker sends for an error: plug-ins count like the package itself."""

import pytest

from mmgrid.files.foreign import in_one_line
from mmgrid.store import StoreError


class PlugInError(ValueError):
    """An error class of a package that is not mmgrid."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StoreError("runs: is not a store"), "runs: is not a store"),
        (PlugInError("items.csv:\n  no item ids"), "items.csv: no item ids"),
        (FileNotFoundError(2, "No such file or directory", "x"), "[Errno 2] No such file or directory: 'x'"),
        (PlugInError(), "PlugInError"),
        (KeyError("weights"), "KeyError: 'weights'"),
        (MemoryError("no room"), "MemoryError: no room"),
        (NotImplementedError("rank"), "NotImplementedError: rank"),
    ],
)
def test_the_type_is_named_where_the_message_alone_explains_nothing(error: Exception, line: str) -> None:
    assert in_one_line(error) == line
