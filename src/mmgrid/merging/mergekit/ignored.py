"""What stands in a mergekit file and mergekit does not read: noted with its line, and with what to write instead."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmgrid.merging.errors import nearest
from mmgrid.merging.mergekit.lines import Lined

# Parameters of mergekit's methods, which belong under `parameters`.
_PARAMETERS = (
    *("weight", "density", "gamma", "epsilon", "lambda", "normalize", "rescale", "int8_mask", "t", "scale", "eps"),
    *("normalize_weights", "filter_wise", "select_topk", "max_iter", "tol", "r", "alpha"),
    *("nuslerp_flatten", "nuslerp_row_wise"),
)


def ignore(item: Mapping[str, Any], known: Sequence[str], place: str, ignored: list[str]) -> None:
    """Adds the keys of a mapping that mergekit does not read, and those that are given twice.

    Args:
        known: the keys that it reads.
        place: of the mapping in the file.
        ignored: what is added to.
    """
    start = f"{place}: " if place else ""

    def line_of(key: str) -> str:
        return f"line {item.lines.get(key, item.line)}: " if isinstance(item, Lined) else ""

    twice = item.twice if isinstance(item, Lined) else ()
    ignored += [f"{line_of(key)}{start}{key}: is given more than once; the last one counts" for key in twice]
    for key in item:
        if key in known:
            continue
        if key in _PARAMETERS:
            told = f"stands {'beside model' if place.endswith(']') else 'outside of parameters'}, where mergekit ignores it"
            ignored.append(f"{line_of(key)}{start}{key}: {told}; write it under parameters")
        else:
            hint = nearest(str(key), known)
            ignored.append(f"{line_of(key)}{start}{key}: is not a key of mergekit{hint}; ignored, as in mergekit")
