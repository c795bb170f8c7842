"""The study of merges across domains, on worlds of planted conflicts."""

import math
from itertools import permutations

import numpy as np
import polars as pl
import pytest

from kits.planted import frame, hits, schemas_hold
from mmgrid.evaluation import holm
from mmgrid.studies import cross_domain, merge_changes
from mmgrid.studies.item_texts import ItemTexts
from mmgrid.studies.statistics.merged_sets import MERGED, SINGLE, MergedSet
from mmgrid.studies.statistics.ranked import Ranked

SIZES = {"a": 1000, "b": 3000, "c": 9000, "d": 27000, "e": 81000}
ANGLES = {"a": 0.0, "b": 0.2, "c": 0.5, "d": 0.9, "e": 1.4}
DIVERSITY = {"a": 0.3, "b": 0.9, "c": 0.1, "d": 0.7, "e": 0.5}
TEXTS = {
    domain: ItemTexts(np.array([math.cos(angle), math.sin(angle)]), DIVERSITY[domain])
    for domain, angle in ANGLES.items()
}
COSINES = {(a, b): math.cos(ANGLES[a] - ANGLES[b]) for a, b in permutations(SIZES, 2)}
RATIOS = {(a, b): math.log(SIZES[a] / SIZES[b]) for a, b in permutations(SIZES, 2)}


def _pairs(merged, domains="abcde", *, way="weight", single=0.5, n=160, seed=0, active=None) -> list[MergedSet]:
    """`merged(domain, partner)`: the share of users for whom the merge finds the target."""
    return [
        MergedSet(
            "semb",
            seed,
            way,
            (min(one, other), max(one, other)),
            one,
            Ranked.of({SINGLE: frame(hits(single, n), active), MERGED: frame(hits(merged(one, other), n), active)}),
        )
        for one, other in permutations(domains, 2)
    ]


def _answer(pairs: list[MergedSet], item_texts=TEXTS, measures=None) -> dict[str, pl.DataFrame]:
    tables = cross_domain.answer(pairs, SIZES, item_texts, measures or {})
    schemas_hold(tables, cross_domain.TABLES)
    return tables


def _findings(tables: dict[str, pl.DataFrame]) -> dict[str, dict]:
    return {row["finding"]: row for row in tables["findings"].to_dicts()}


def test_conflict_everywhere() -> None:
    tables = _answer(_pairs(lambda one, other: 0.2, "abc"))
    merges = tables["merges"]
    assert merges.height == 6 * 3 * 4
    for row in merges.filter(pl.col("group") == "all").to_dicts():
        assert row["single"] == pytest.approx(50, abs=1)
        assert row["merged"] == pytest.approx(20, abs=1)
        assert row["change"] == pytest.approx(-60, abs=2)
        assert row["low"] <= row["change"] <= row["high"] < 0
        assert row["n_users"] == 160
    (found,) = tables["findings"].to_dicts()  # too few domains for a correlation
    assert found["finding"] == "finding 2, weight"
    assert (found["value"], found["n"], found["verdict"]) == (1.0, 6, "reproduced")


def test_gains_everywhere_and_no_change() -> None:
    (found,) = _answer(_pairs(lambda one, other: 0.8, "abc"))["findings"].to_dicts()
    assert (found["value"], found["verdict"]) == (0.0, "not reproduced")
    (found,) = _answer(_pairs(lambda one, other: 0.5, "abc"))["findings"].to_dicts()
    assert (found["value"], found["verdict"]) == (0.0, "undecided")


def test_holm_corrects_within_a_group_and_metric() -> None:
    merges = _answer(_pairs(lambda one, other: 0.45, "abc") + _pairs(lambda one, other: 0.4, "abc", way="subspace"))[
        "merges"
    ]
    parts = merges.partition_by("group", "metric")
    assert len(parts) == 12
    for part in parts:
        assert part.height == 12
        np.testing.assert_allclose(part["p_adjusted"], holm(part["p"].to_numpy()))


def test_a_planted_effect_of_size() -> None:
    found = _findings(_answer(_pairs(lambda one, other: 0.4 + 0.05 * RATIOS[one, other])))
    assert found["finding 3, weight"]["verdict"] == "reproduced"
    assert found["finding 3, weight"]["value"] > 0.95
    assert found["finding 3, weight"]["p"] < 0.05
    assert found["finding 3, weight"]["n"] == 20
    assert found["finding 1, weight"]["verdict"] == "undecided"
    assert found["finding 1, weight"]["p"] > 0.05


def test_a_planted_effect_of_similarity_for_each_way_of_merging() -> None:
    pairs = _pairs(lambda one, other: 0.1 + 0.5 * COSINES[one, other])
    pairs += _pairs(lambda one, other: 0.7 - 0.5 * COSINES[one, other], way="subspace")
    found = _findings(_answer(pairs))
    assert found["finding 1, weight"]["verdict"] == "reproduced"
    assert found["finding 1, subspace"]["verdict"] == "not reproduced"
    for way in ("weight", "subspace"):
        assert found[f"finding 3, {way}"]["verdict"] == "undecided"
        assert found[f"finding 3, {way}"]["low"] <= 0 <= found[f"finding 3, {way}"]["high"]


def test_a_planted_effect_of_the_partners_diversity() -> None:
    tables = _answer(_pairs(lambda one, other: 0.1 + 0.4 * DIVERSITY[other], n=1000))
    found = _findings(tables)["finding 1 (diversity), weight"]
    assert found["verdict"] == "reproduced"
    assert found["value"] > 0.9
    partners = tables["partners"].filter(metric="ndcg@20").sort("diversity")
    assert partners["partner"].to_list() == ["c", "a", "e", "d", "b"]
    for row in partners.to_dicts():
        assert row["kept"] == pytest.approx(100 * (0.1 + 0.4 * DIVERSITY[row["partner"]]) / 0.5, abs=3)
        assert row["low"] <= row["kept"] <= row["high"]
        assert row["merges"] == 4


def test_diversity_is_the_mean_cosine_distance_of_two_items() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = [1 - float(units[a] @ units[b]) for a, b in permutations(range(40), 2)]
    assert ItemTexts.of(vectors).diversity == pytest.approx(np.mean(distances), abs=1e-6)
    with_zero = np.vstack([vectors, np.zeros(5, np.float32)])
    assert ItemTexts.of(with_zero).diversity == pytest.approx(np.mean(distances), abs=1e-6)
    assert ItemTexts.of(np.ones((3, 2), np.float32)).diversity == pytest.approx(0)
    assert math.isnan(ItemTexts.of(np.ones((1, 2), np.float32)).diversity)


def test_without_item_vectors_finding_1_is_left_out() -> None:
    tables = _answer(_pairs(lambda one, other: 0.4), item_texts={"a": TEXTS["a"]})
    found = _findings(tables)
    assert tables["partners"].filter(partner="b")["diversity"].is_null().all()
    assert found.keys() == {"finding 2, weight", "finding 3, weight"}


def test_constant_changes_have_no_correlation() -> None:
    found = _findings(_answer(_pairs(lambda one, other: 0.4)))
    assert {found[name]["verdict"] for name in ("finding 1, weight", "finding 3, weight")} == {"undecided"}


def test_a_single_model_that_finds_nothing_gives_no_change_in_percent() -> None:
    tables = _answer(_pairs(lambda one, other: 0.2, single=0.0))
    assert tables["merges"]["change"].is_nan().all()
    assert {row["verdict"] for row in _findings(tables).values()} == {"undecided"}


def test_groups_without_users_have_no_rows() -> None:
    tables = _answer(_pairs(lambda one, other: 0.2, "ab", active=np.ones(160, bool)))
    assert set(tables["merges"]["group"]) == {"all", "active"}


def test_seeds_are_kept_apart_and_no_pairs_give_empty_tables() -> None:
    pairs = _pairs(lambda one, other: 0.2, "ab") + _pairs(lambda one, other: 0.8, "ab", seed=1)
    tables = _answer(pairs)
    assert {row["seed"]: row["verdict"] for row in tables["findings"].to_dicts()} == {
        0: "reproduced",
        1: "not reproduced",
    }
    assert not any(table.height for table in _answer([]).values())


def test_a_merge_evaluated_on_a_sample_is_compared_on_the_sample() -> None:
    recipe = {"paradigm": "semb", "domain": "a", "seed": 0}
    about = {"model": "linear=a+b", "sources": ("a", "b"), "merge": "linear", "parameter": 0.5}
    merged, single = frame(hits(0.2, 160)), frame(hits(0.5, 160))
    sample = merged[::2]
    found, same = (
        merge_changes.changes([merge_changes.Compared(recipe, about, [sample], reference, "phase2")])
        for reference in (single, single[::2])
    )
    assert found.equals(same)
    assert found["n_users"].max() == 80
    with pytest.raises(ValueError, match="linear=a\\+b and phase2: ranked for different users"):
        merge_changes.changes([merge_changes.Compared(recipe, about, [merged], single[::2], "phase2")])


@pytest.mark.parametrize(("subspace", "verdict"), [(0.4, "reproduced"), (0.1, "not reproduced"), (0.25, "undecided")])
def test_the_two_ways_are_judged_by_the_interval_of_their_difference(subspace: float, verdict: str) -> None:
    pairs = _pairs(lambda one, other: 0.25, "ab", seed=2)
    pairs += _pairs(lambda one, other: subspace, "ab", way="subspace", seed=2)
    found = _findings(_answer(pairs))["subspace or weight"]
    assert found["value"] == pytest.approx(100 * (subspace - 0.25) / 0.5, abs=3)
    assert found["low"] <= found["value"] <= found["high"]
    assert (found["n"], found["seed"], found["verdict"]) == (2, 2, verdict)
