"""Names that are imported when they are asked for."""

import sys
from types import ModuleType

import pytest

from mmgrid.later import later


def test_a_name_is_imported_when_it_is_asked_for_and_then_stays():
    package = ModuleType("mmgrid.learning_here")
    sys.modules[package.__name__] = package
    try:
        package.__path__ = sys.modules["mmgrid"].__path__
        package.__getattr__ = later(package.__name__, {"duration": "quantities"})
        assert "duration" not in vars(package)
        assert package.duration(60) == "1 min 00 s"
        assert "duration" in vars(package)
        with pytest.raises(AttributeError, match="module 'mmgrid.learning_here' has no attribute 'durations'"):
            package.durations  # noqa: B018
    finally:
        sys.modules.pop(package.__name__)
        sys.modules.pop(f"{package.__name__}.quantities", None)


def test_a_name_that_a_module_would_hide_is_refused():
    with pytest.raises(ValueError, match="learn is a module, too"):
        later("mmgrid.learning", {"Learned": "learn", "learn": "learn"})
