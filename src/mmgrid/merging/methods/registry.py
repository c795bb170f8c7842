"""The merge methods by name. A new method is one file beside this one, and one line here."""

from __future__ import annotations

from mmgrid.merging.errors import MergeError, nearest
from mmgrid.merging.methods.base import Method
from mmgrid.merging.methods.breadcrumbs import breadcrumbs
from mmgrid.merging.methods.cart import cart
from mmgrid.merging.methods.dare import dare
from mmgrid.merging.methods.della import della
from mmgrid.merging.methods.iso_c import iso_c
from mmgrid.merging.methods.iso_cts import iso_cts
from mmgrid.merging.methods.knots import knots
from mmgrid.merging.methods.layer_scaling import lines
from mmgrid.merging.methods.linear import linear
from mmgrid.merging.methods.mask import mask
from mmgrid.merging.methods.model_stock import model_stock
from mmgrid.merging.methods.pcb import pcb
from mmgrid.merging.methods.slerp import multislerp, slerp
from mmgrid.merging.methods.tall_masks import consensus
from mmgrid.merging.methods.task_arithmetic import task_arithmetic
from mmgrid.merging.methods.temporal import acceleration, decay, velocity
from mmgrid.merging.methods.ties import ties
from mmgrid.merging.methods.tsv_m import tsv_m

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        linear,
        task_arithmetic,
        slerp,
        multislerp,
        model_stock,
        ties,
        dare,
        mask,
        breadcrumbs,
        della,
        lines,
        consensus,
        pcb,
        tsv_m,
        iso_c,
        iso_cts,
        cart,
        knots,
        velocity,
        acceleration,
        decay,
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
