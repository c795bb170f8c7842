"""The tensors of an adapter, under the names that its model's file has for them.

PEFT names modules as the class of transformers does; files of older versions have other names for the same modules, such as
`language_model.model.layers.0…` for `model.language_model.layers.0…`.
"""

from __future__ import annotations

import re

from mmgrid.merging.models.adapter_rows import ROWS_SUFFIX
from mmgrid.merging.models.other_names import other_names
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.ties import implied
from mmgrid.merging.models.view import SourceView

ADAPTER_PREFIX = "base_model.model."  # of the names of its tensors
FACTOR = re.compile(r"^(?P<module>.*)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B)(\.weight)?$")
WRAPPED = re.compile(r"\.(modules_to_save|base_layer)(?=\.)")  # added by peft to the names of whole modules


def with_names_of(model: Source, adapter: Source) -> tuple[Source, dict[str, str]]:
    """The adapter with names of the model, and: module → what the adapter calls it, where that differs.

    A tensor keeps its name if the model has no tensor, or several, that could be meant; a tied head counts as one, though the
    model's file does not hold it.
    """
    there = {*model, *implied(model)}
    changed = {name: _changed(name.removeprefix(ADAPTER_PREFIX)) for name in adapter}
    taken = {tensor for tensor, _ in changed.values()}
    copies, called = {}, {}
    for name, (tensor, rest) in changed.items():
        fits = set() if tensor in there else {one for one in other_names(tensor) if one in there} - taken
        if len(fits) != 1 or not (fit := fits.pop()).endswith(tensor.rpartition(".")[2]):
            continue
        copies[f"{ADAPTER_PREFIX}{fit.removesuffix('.weight') + rest if rest else fit}"] = name
        called[fit.rpartition(".")[0]] = tensor.rpartition(".")[0]
    return (SourceView(adapter, set(copies.values()), copies) if copies else adapter), called


def _changed(own: str) -> tuple[str, str]:
    """The tensor that one of an adapter's changes, and what its name has in place of `.weight`; empty for whole tensors."""
    if match := FACTOR.match(own):
        return f"{match['module']}.weight", own.removeprefix(match["module"])
    if own.endswith(ROWS_SUFFIX):
        return own.removesuffix(ROWS_SUFFIX) + ".weight", ROWS_SUFFIX
    return WRAPPED.sub("", own), ""
