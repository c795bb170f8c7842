"""The recency study: a planted relation of λ* of non-active users to the mean interaction time gap, and its absence."""

import pytest

from kits.planted import schemas_hold, statistics, temporal_sweep
from mmgrid.studies import recency

GAPS = {"a": 100.0, "b": 220.0, "c": 330.0, "d": 470.0, "e": 600.0}


def _answer(best: dict[str, float], gaps: dict[str, float | None] | None = None, **of_sweep):
    sweeps = [temporal_sweep(domain, 1.0, place, n=300, **of_sweep) for domain, place in best.items()]
    return recency.answer(sweeps, {domain: statistics(gap) for domain, gap in (gaps or GAPS).items()})


def test_a_planted_line_is_reproduced() -> None:
    tables = _answer({domain: 1.6 - gap / 500 for domain, gap in GAPS.items()})
    schemas_hold(tables, recency.TABLES)
    for row in tables["recency"].to_dicts():
        assert row["best"] == pytest.approx(1.6 - row["gap_days"] / 500, abs=0.08)
        assert row["best_low"] <= row["best"] <= row["best_high"]
        assert (row["test_users"], row["active_ratio"]) == (600, 0.5)
    (found,) = tables["findings"].to_dicts()
    assert found["value"] < -0.98
    assert found["high"] < 0
    assert (found["n"], found["verdict"]) == (5, "reproduced")
    assert found["p"] <= 2 / 120 + 1e-9


def test_the_reverse_is_not_reproduced_and_no_relation_is_undecided() -> None:
    (found,) = _answer({domain: gap / 500 for domain, gap in GAPS.items()})["findings"].to_dicts()
    assert found["verdict"] == "not reproduced"
    bests = dict(zip(GAPS, (0.9, 0.3, 1.2, 0.4, 0.8), strict=True))
    (found,) = _answer(bests)["findings"].to_dicts()
    assert found["verdict"] == "undecided"
    assert found["p"] > 0.05


def test_one_lambda_everywhere_has_no_correlation() -> None:
    """All curves fall from the same end, so λ* is constant over domains and in every resample."""
    tables = _answer(dict.fromkeys(GAPS, -4.0), steep=0.02)
    assert set(tables["recency"]["best"]) == {-0.5}
    (found,) = tables["findings"].to_dicts()
    assert found["verdict"] == "undecided"


def test_three_domains_are_too_few_for_a_finding_but_not_for_the_table() -> None:
    tables = _answer(dict.fromkeys("abc", 1.0))
    schemas_hold(tables, recency.TABLES)
    assert (tables["recency"].height, tables["findings"].height) == (3, 0)


def test_domains_without_a_gap_or_without_non_active_users_stay_in_the_table_only() -> None:
    import numpy as np

    sweeps = [temporal_sweep(d, 1.0, 1.6 - gap / 500, n=300) for d, gap in GAPS.items()]
    sweeps.append(temporal_sweep("f", 1.0, 1.0, n=60, active=np.ones(60, bool)))
    sweeps.append(temporal_sweep("g", 1.0, 1.0, n=60))
    tables = recency.answer(sweeps, {d: statistics(gap) for d, gap in (GAPS | {"f": 300.0, "g": None}).items()})
    of = {row["domain"]: row for row in tables["recency"].to_dicts()}
    assert of["g"]["gap_days"] is None
    assert [of["f"][name] for name in ("best", "best_low", "best_high")] == [None] * 3
    (found,) = tables["findings"].to_dicts()
    assert found["n"] == 5


def test_seeds_and_paradigms_are_kept_apart() -> None:
    sweeps = [
        temporal_sweep(d, 1.0, 1.6 - gap / 500 if seed else gap / 500, n=200, seed=seed)
        for d, gap in GAPS.items()
        for seed in (0, 1)
    ]
    tables = recency.answer(sweeps, {d: statistics(gap) for d, gap in GAPS.items()})
    assert {row["seed"]: row["verdict"] for row in tables["findings"].to_dicts()} == {
        0: "not reproduced",
        1: "reproduced",
    }
