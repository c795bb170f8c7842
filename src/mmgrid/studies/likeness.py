"""How alike the models of two domains are: measures that may predict what a merge of them keeps."""

from collections.abc import Mapping
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path

import numpy as np

from mmgrid.studies.item_texts import ItemTexts
from mmgrid.studies.opened_models import opened_models
from mmgrid.studies.statistics.merged_sets import Measure

CONFLICTS, COSINE, OVERLAP = "sign conflict", "cosine", "subspace overlap"
ITEMS, DIVERSITY, SIZE = "item vectors", "partner's diversity", "size"
PREDICTORS = {
    CONFLICTS: "share of weights that both task vectors change in opposite directions",
    COSINE: "cosine of the task vectors",
    OVERLAP: "overlap of the leading subspaces of the task vectors' matrices",
    ITEMS: "cosine of the domains' mean item vectors",
    DIVERSITY: "mean cosine distance of two of the partner's items, by their vectors",
    SIZE: "log ratio of training interactions, the domain's to the partner's",
}
"""Predictor → what it measures of a domain and a partner."""


def likeness(
    folders: Mapping[str, Path],
    base: Path,
    paradigm: str,
    interactions: Mapping[str, int],
    item_texts: Mapping[str, ItemTexts],
) -> dict[str, Measure]:
    """Predictor → (domain, partner) → value.

    Args:
        folders: domain → folder of its model.
        base: the folder of Θ⁽⁰⁾.
        interactions: domain → number of training interactions.
        item_texts: by domain; unless all are known, nothing is predicted from them.
    """
    from mmgrid.merging.compare import compare
    from mmgrid.merging.overlap import subspace_overlap  # imports torch when it computes

    names = sorted(folders)
    with ExitStack() as stack:
        models = opened_models(folders, paradigm, stack)
        first, second, *rest = (models[name] for name in names)
        compared = compare(first, second, *rest, base=base, names=names)
        overlap = subspace_overlap(models, base)
    pairs = {
        (names[one], names[other]): compared.whole.pair(one, other) for one, other in permutations(range(len(names)), 2)
    }
    found: dict[str, Measure] = {
        CONFLICTS: {pair: both.conflicts for pair, both in pairs.items()},
        COSINE: {pair: both.cosine for pair, both in pairs.items()},
        OVERLAP: overlap,
        SIZE: {(one, other): float(np.log(interactions[one] / interactions[other])) for one, other in pairs},
    }
    if set(names) <= set(item_texts):
        found[ITEMS] = {(one, other): item_texts[one].likeness(item_texts[other]) for one, other in pairs}
        found[DIVERSITY] = {(one, other): item_texts[other].diversity for one, other in pairs}
    return found
