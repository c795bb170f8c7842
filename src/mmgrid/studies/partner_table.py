"""The table of domains as partners: what each gives the others when two are merged, and how diverse its texts are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.item_texts import ItemTexts
from mmgrid.studies.statistics.findings import bounds
from mmgrid.studies.statistics.merged_sets import MergedSet
from mmgrid.studies.statistics.ranked import METRICS

PARTNERS_SCHEMA = pl.Schema(
    texts("paradigm", "way", "partner", "metric")
    | numbers("diversity", "kept", "low", "high")
    | counts("merges", "seed")
)
"""One row per way, domain as a partner, and metric, over all users.

`kept` with bounds is the share of their own model's quality that other domains keep when they are merged with `partner`,
in percent, averaged over these domains. `diversity` is the mean cosine distance of two of the partner's items, by their
vectors; null if the grid has none.
"""


def partner_rows(pairs: Sequence[MergedSet], item_texts: Mapping[str, ItemTexts]) -> list[dict[str, Any]]:
    """The rows of `PARTNERS_SCHEMA` of all merges of two domains by one way."""
    rows = []
    for partner in sorted({other for pair in pairs for other in pair.others}):
        with_it = [pair for pair in pairs if pair.others == (partner,)]
        known = item_texts.get(partner)
        for metric in METRICS:
            low, high = bounds(np.mean([pair.resampled(metric) for pair in with_it], axis=0))
            rows.append(
                {
                    "paradigm": pairs[0].paradigm,
                    "way": pairs[0].way,
                    "partner": partner,
                    "metric": metric,
                    "diversity": None if known is None else known.diversity,
                    "kept": float(np.mean([pair.kept(metric)[2] for pair in with_it])),
                    "low": low,
                    "high": high,
                    "merges": len(with_it),
                    "seed": pairs[0].seed,
                }
            )
    return rows
