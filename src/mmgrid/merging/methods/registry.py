"""The merge methods by name, read from the entry points of the group `mmgrid.merge_methods`.

A new built-in method is one file in this folder and one entry point in `pyproject.toml`. Another package adds a method
with an entry point of its own.
"""

from mmgrid.merging.errors import MergeError, nearest
from mmgrid.merging.methods.base import Method
from mmgrid.plugins import Plugins


def _check(name: str, method: object) -> None:
    if not isinstance(method, Method):
        raise TypeError(f"a merge method is a function with the decorator merge_method, not {type(method).__name__}")
    if method.name != name:
        raise ValueError(f"the entry point is called {name!r}, its function {method.name!r}")


METHODS: Plugins[Method] = Plugins(
    "mmgrid.merge_methods",
    "merge method",
    _check,
    first=(
        *(
            "linear",
            "task_arithmetic",
            "slerp",
            "multislerp",
            "nuslerp",
            "karcher",
            "model_stock",
            "model_stock_filters",
        ),
        *("ties", "dare", "mask", "breadcrumbs", "della", "lines", "consensus", "emr", "pcb"),
        *("sce", "ram", "ram_plus", "nearswap", "arcee_fusion"),
        *("tsv_m", "iso_c", "iso_cts", "cart", "knots"),
        *("fisher", "regmean"),
        *("velocity", "acceleration", "decay"),
    ),
)


def get_method(name: str) -> Method:
    """The method with this name.

    Raises:
        MergeError: no method has this name; the message lists the known ones.
        PluginError: the method belongs to another package and cannot be loaded.
    """
    if name not in METHODS:
        raise MergeError(f"unknown merge method {name!r}{nearest(name, METHODS)}; known: {', '.join(METHODS)}")
    return METHODS[name]
