"""Merges of several domains: which sets are merged, what they keep by size, and what predicts it."""

from collections import Counter
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from kits.planted import frame, hits, schemas_hold
from mmgrid.studies import cross_domain
from mmgrid.studies.statistics.merged_sets import MERGED, SINGLE, MergedSet, chosen_sets
from mmgrid.studies.statistics.ranked import Ranked

SIX = "abcdef"
DISTANCES = {(a, b): float(abs(SIX.index(a) - SIX.index(b))) for a in SIX for b in SIX if a != b}
SIZES = {name: 1000 * 2**place for place, name in enumerate("cafbed")}


def test_all_pairs_triples_in_a_ring_and_all_at_once() -> None:
    assert chosen_sets(SIX, 2) == list(combinations(SIX, 2))
    assert chosen_sets(SIX, 6) == [tuple(SIX)]
    assert len(chosen_sets("dcba", 3)) == 4, "all of them"
    triples = chosen_sets(SIX, 3)
    assert len(set(triples)) == 6
    assert set(Counter(name for one in triples for name in one).values()) == {3}
    assert chosen_sets(SIX, 3, [("c", "a", "b"), ("d", "e")]) == [("a", "b", "c")]


def _merges(share, sizes=(2, 3, 6), *, draws: int = 1, n: int = 120) -> list[MergedSet]:
    """`share(set, domain)`: the share of users for whom the merge finds the target; the single model has half."""
    return [
        MergedSet(
            "semb",
            0,
            "subspace",
            one,
            domain,
            Ranked.of({SINGLE: [frame(hits(0.5, n))], MERGED: [frame(hits(share(one, domain), n))] * draws}),
        )
        for size in sizes
        for one in chosen_sets(SIX, size)
        for domain in one
    ]


def _answer(merges: list[MergedSet], measures=None) -> dict[str, pl.DataFrame]:
    tables = cross_domain.answer(merges, SIZES, {}, measures or {})
    schemas_hold(tables, cross_domain.TABLES)
    return tables


def test_the_kept_share_falls_with_the_number_of_domains() -> None:
    tables = _answer(_merges(lambda one, domain: 0.5 / len(one) + 0.05 * (domain == "a"), draws=2))
    main = tables["sizes"].filter(metric="ndcg@20").sort("size").to_dicts()
    assert [(row["size"], row["sets"], row["draws"]) for row in main] == [(2, 15, 2), (3, 6, 2), (6, 1, 2)]
    for row in main:
        assert row["least"] == pytest.approx(100 / row["size"], abs=3)
        assert row["kept"] == pytest.approx(100 / row["size"] + 10 / 6, abs=3)
        assert row["low"] <= row["kept"] <= row["high"]
    (found,) = tables["findings"].filter(pl.col("finding") == "more domains, subspace").to_dicts()
    assert found["value"] == pytest.approx(100 / 2 - 100 / 6, abs=4)
    assert (found["verdict"], found["n"]) == ("reproduced", 30 + 18 + 6)
    assert set(tables["merges"]["partner"]) == set(SIX), "only pairs have a partner"
    row = tables["sets"].filter(set="a+b+c", domain="a", metric="recall@20").to_dicts()[0]
    assert row["kept"] == pytest.approx(100 * row["merged"] / row["single"])


def test_the_planted_predictor_is_found_within_sizes() -> None:
    def share(one: tuple[str, ...], domain: str) -> float:
        others = [DISTANCES[domain, other] for other in one if other != domain]
        return 0.5 / len(one) + 0.04 * float(np.mean(others)) / len(one)

    measures = {"far": DISTANCES, "noise": {pair: float(hash(pair[0]) % 7 * 0 + len(pair)) for pair in DISTANCES}}
    rows = {row["predictor"]: row for row in _answer(_merges(share, n=600), measures)["predictors"].to_dicts()}
    assert rows["far"]["value"] > 0.9
    assert rows["far"]["p_adjusted"] < 0.05
    assert rows["far"]["n"] == 54
    assert rows["noise"]["value"] is None or np.isnan(rows["noise"]["value"])


def test_sizes_of_one_kind_have_no_growth_and_few_domains_no_predictors() -> None:
    tables = _answer(
        [one for one in _merges(lambda one, domain: 0.3, (2,)) if set(one.domains) <= set("abc")], {"d": DISTANCES}
    )
    assert tables["predictors"].is_empty()
    assert not any("more domains" in finding for finding in tables["findings"]["finding"])
