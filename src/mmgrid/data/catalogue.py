"""Which items may be recommended at a time: all that the domain ever has, or those seen by then.

Item rows never change between the two; only the candidates differ.  Whatever is compared with each other is
ranked on one catalogue: an open one is taken at t2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from mmgrid.data.calendar import format_time
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import DataError
from mmgrid.data.items import Items

Catalogue = Literal["closed", "open"]


def catalogue_at(corpus: Corpus, kind: Catalogue, end: int, before: int | None = None) -> Items:
    """The domain's items, with the candidates of that time.

    Args:
        kind: "closed": every prepared item is a candidate.  "open": those with an interaction of this
            corpus before `end`.
        end: ms UTC, exclusive; a closed catalogue does not depend on it.
        before: the end of the phase before (ms UTC): what an open catalogue did not hold then is `new`.

    Raises DataError if an open catalogue has no item yet.
    """
    if kind == "closed":
        return corpus.catalogue
    if kind != "open":
        raise ValueError(f"catalogue {kind!r}: expected 'closed' or 'open'")
    seen = np.unique(corpus.items[corpus.timestamps < end])
    if not seen.size:
        raise DataError(
            f"{corpus.name}: no item has an interaction before {format_time(end)}; nothing can be recommended"
        )
    items = corpus.catalogue.with_candidates(seen)
    if before is None:
        return items
    return replace(items, new=np.setdiff1d(seen, corpus.items[corpus.timestamps < before]).astype(np.int64))
