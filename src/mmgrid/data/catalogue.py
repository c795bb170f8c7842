"""Which items may be recommended at a time: all items of the domain (closed), or those seen by then (open).

Item rows are the same for both; only the candidates differ. Models that are compared with each other are ranked on one
catalogue; an open one is that of t2.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from mmgrid.data.calendar import format_time
from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import DataError
from mmgrid.data.items import Items

Catalogue = Literal["closed", "open"]


def catalogue_at(corpus: Corpus, kind: Catalogue, end: int, before: int | None = None) -> Items:
    """The domain's items, with the candidates at the time `end`.

    Args:
        kind: "closed": every prepared item is a candidate. "open": items with an interaction in this corpus before
            `end`.
        end: ms UTC, exclusive; ignored for a closed catalogue.
        before: end of the phase before (ms UTC); candidates that an open catalogue lacked then are `new`.

    Raises DataError if an open catalogue has no items yet.
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
