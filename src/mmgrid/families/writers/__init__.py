"""Writes the parts of a domain, one file per kind."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mmgrid.families.pair import Pair
from mmgrid.families.parts import PartOptions
from mmgrid.families.writers.delta import write_delta
from mmgrid.families.writers.exact import write_exact
from mmgrid.families.writers.low_rank import write_low_rank
from mmgrid.families.writers.mask import write_mask
from mmgrid.families.writers.own import write_own
from mmgrid.merging.models.family.file import Kind

# Each writes some tensors of a domain into its folder, with their options and a number of threads, and returns what
# `family.json` has to say of them beyond the plan.
Writer = Callable[[Pair, Mapping[str, PartOptions], Path, int], Mapping[str, Mapping[str, object]]]
WRITERS: Mapping[Kind, Writer] = {
    "own": write_own,
    "mask": write_mask,
    "low_rank": write_low_rank,
    "delta": write_delta,
    "exact": write_exact,
}
