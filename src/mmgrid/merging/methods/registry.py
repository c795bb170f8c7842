"""The merge methods by name. A new method is one file beside this one, and one line here."""

from __future__ import annotations

from mmgrid.merging.errors import MergeError, nearest
from mmgrid.merging.methods.base import Method
from mmgrid.merging.methods.linear import linear
from mmgrid.merging.methods.task_arithmetic import task_arithmetic

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        linear,
        task_arithmetic,
    )
}


def get_method(name: str) -> Method:
    """The method with this name.

    Raises:
        MergeError: there is none.
    """
    if name not in METHODS:
        raise MergeError(f"unknown merge method {name!r}{nearest(name, METHODS)}; known: {', '.join(METHODS)}")
    return METHODS[name]
