"""λ predicted from the data alone: the study (Table 3), and the sentences that `mmgrid advise` prints."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from kits.planted import frame, hits, parabola, schemas_hold, statistics, temporal_sweep
from mmgrid.evaluation import holm
from mmgrid.studies import advise as study
from mmgrid.studies.predicted_scale import LEAST_POINTS, PredictedScale, predict_scale
from mmgrid.studies.statistics.leave_one_out_line import blended, left_out
from mmgrid.studies.sweep import Sweep

GAPS = {"a": 100.0, "b": 220.0, "c": 330.0, "d": 450.0, "e": 600.0}


class World:
    """Domains whose λ* is planted; records the λ of every evaluated model."""

    def __init__(self, best: dict[str, float], *, seeds: tuple[int, ...] = (0,), n: int = 400):
        self.best, self.n = best, n
        self.asked: list[tuple[str, int, float]] = []
        self.sweeps = [temporal_sweep(d, place, place, n=n, seed=seed) for d, place in best.items() for seed in seeds]

    def ranks_at(self, sweep: Sweep, scale: float) -> pl.DataFrame:
        self.asked.append((sweep.domain, sweep.seed, scale))
        return frame(hits(parabola(scale, self.best[sweep.domain]), self.n))

    def answer(self, **changed) -> dict[str, pl.DataFrame]:
        known = {domain: statistics(GAPS.get(domain, 300.0)) for domain in self.best} | changed
        tables = study.answer(self.sweeps, known, self.ranks_at)
        schemas_hold(tables, study.TABLES)
        return tables


@pytest.fixture(scope="module")
def world() -> World:
    return World({domain: 1.6 - gap / 400 for domain, gap in GAPS.items()})


@pytest.fixture(scope="module")
def tables(world: World) -> dict[str, pl.DataFrame]:
    return world.answer()


def test_a_domain_is_predicted_by_the_line_through_the_others(tables, world) -> None:
    rows = {row["domain"]: row for row in tables["predictions"].to_dicts()}
    points = {domain: (GAPS[domain], row["best"]) for domain, row in rows.items()}
    for domain, row in rows.items():
        line = left_out(points, domain)
        assert (row["slope"], row["intercept"], row["n_domains"]) == (line.slope, line.intercept, 4)
        assert row["predicted"] == line.at(GAPS[domain]) == pytest.approx(world.best[domain], abs=0.15)
        assert row["scale"] == blended(row["predicted"], 0.5)
        assert row["scale_before"] == blended(row["predicted"], 0.4)
    assert world.asked == [(domain, 0, rows[domain]["scale"]) for domain in rows]  # once each, and nowhere else


def test_the_model_at_the_predicted_lambda_is_compared_with_the_newest_one(tables, world) -> None:
    table = tables["comparison"]
    assert set(table["metric"]) == {"ndcg@10", "ndcg@20", "recall@10", "recall@20"}
    for row in table.filter(pl.col("metric") == "recall@20").to_dicts():
        at, one = (np.mean(hits(parabola(x, world.best[row["domain"]]), 400) == 0) for x in (row["scale"], 1.0))
        assert row["value"] == pytest.approx(100 * at)
        assert row["value_at_one"] == pytest.approx(100 * one)
        assert row["difference"] == pytest.approx(100 * (at - one))
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["n_users"] == 400
    for part in table.partition_by("metric"):
        np.testing.assert_allclose(part["p_adjusted"], holm(part["p"].to_numpy()))


def test_verdicts_where_the_line_is_right(tables) -> None:
    found = {row["finding"]: row for row in tables["findings"].to_dicts()}
    assert found["recency predicts λ*"]["verdict"] == "reproduced"
    assert found["recency predicts λ*"]["value"] > 0.3
    assert found["advised λ"]["verdict"] == "reproduced"
    assert found["advised λ"]["low"] <= found["advised λ"]["value"] <= found["advised λ"]["high"]
    assert {row["n"] for row in found.values()} == {5}


def test_verdicts_where_the_line_misleads() -> None:
    """λ* alternates along the gap, so that each line predicts the wrong direction."""
    world = World(dict(zip("abcde", (0.2, 1.8, 0.2, 1.8, 0.2), strict=True)))
    found = {row["finding"]: row["verdict"] for row in world.answer()["findings"].to_dicts()}
    assert found == {"advised λ": "not reproduced", "recency predicts λ*": "not reproduced"}


def test_lambda_one_best_and_predicted_is_undecided() -> None:
    found = World(dict.fromkeys("abcd", 1.0)).answer()["findings"].to_dicts()
    assert found[0]["finding"] == "advised λ"
    assert found[0]["value"] == pytest.approx(0, abs=1)
    assert found[0]["verdict"] != "reproduced"


def test_domains_without_a_gap_or_an_earlier_active_ratio() -> None:
    world = World(dict.fromkeys("abcd", 1.0), n=60)
    tables = world.answer(a=statistics(None), b=statistics(250.0, before=None))
    rows = {row["domain"]: row for row in tables["predictions"].to_dicts()}
    assert rows.keys() == {"b", "c", "d"}
    assert rows["b"]["scale_before"] is None
    assert {row["n_domains"] for row in rows.values()} == {2}


def test_two_domains_have_no_line() -> None:
    world = World(dict.fromkeys("ab", 1.0), n=60)
    assert not any(table.height for table in world.answer().values())
    assert world.asked == []


def test_each_seed_has_its_own_lines() -> None:
    world = World({domain: 1.6 - gap / 400 for domain, gap in list(GAPS.items())[:3]}, seeds=(0, 1), n=100)
    tables = world.answer()
    assert {(domain, seed) for domain, seed, _ in world.asked} == {(d, s) for d in "abc" for s in (0, 1)}
    assert sorted(tables["findings"]["seed"]) == [0, 1]  # three domains are too few to judge the line
    assert set(tables["predictions"]["n_domains"]) == {2}


def test_a_value_of_zero_at_lambda_one_gives_no_gain_in_percent() -> None:
    """No target is found at λ = 1, so the gain in percent is undefined, and the verdict undecided."""
    world = World(dict.fromkeys("abc", 1.0), n=60)
    world.sweeps = [
        Sweep.of(s.paradigm, s.domain, 0, {float(x): frame(hits(0.0, 60)) for x in s.scales}) for s in world.sweeps
    ]
    tables = world.answer()
    found = {row["finding"]: row for row in tables["findings"].to_dicts()}["advised λ"]
    assert found["verdict"] == "undecided"
    assert found["value"] is None or not np.isfinite(found["value"])


# ---- for a deployment ---------------------------------------------------------------------------------------------

LINE = {"a": (100.0, 1.4), "b": (200.0, 1.2), "c": (300.0, 1.0), "d": (400.0, 0.8)}
FAR, NEAR = "this is an extrapolation", "lies within this error"
NO_BETTER = "no better than the mean"


def _advice(gap: float = 250.0, ratio: float = 0.25, points=LINE) -> PredictedScale:
    return predict_scale("x", gap, ratio, points, "a test")


def test_the_numbers_of_a_prediction() -> None:
    found = _advice(150.0)
    assert found.predicted == pytest.approx(1.3)
    assert found.scale == pytest.approx(0.75 * 1.3 + 0.25)
    assert found.error == pytest.approx(0, abs=1e-12)
    # The mean of the other three misses 1.4 by 0.4, 1.2 by 0.4/3, and so on.
    assert found.error_of_mean == pytest.approx((0.4 + 0.4 / 3 + 0.4 / 3 + 0.4) / 4)


def test_the_sentences_for_a_good_line() -> None:
    words = _advice(150.0).sentences()
    assert len(words) == 2
    assert words[0] == (
        "λ̃ = 1.300 for non-active users is predicted by a line through 4 domains (a test); the active users (25 %) "
        "count with λ = 1."
    )
    assert words[1] == (
        "On a left-out domain the line errs by 0.00 on average, which would move λ̂ by 0.00 here; the mean of the "
        "other domains errs by 0.27."
    )


@pytest.mark.parametrize(("gap", "far"), [(99.0, True), (100.0, False), (400.0, False), (401.0, True)])
def test_a_gap_outside_the_other_domains_is_an_extrapolation(gap: float, far: bool) -> None:
    found = _advice(gap)
    assert found.extrapolates == far
    assert any(FAR in sentence for sentence in found.sentences()) == far


def test_a_line_that_is_no_better_than_the_mean_says_so() -> None:
    zigzag = {"a": (100.0, 0.4), "b": (200.0, 1.6), "c": (300.0, 0.4), "d": (400.0, 1.6)}
    found = _advice(points=zigzag)
    assert found.error > found.error_of_mean
    assert any(NO_BETTER in sentence for sentence in found.sentences())
    assert not any(NO_BETTER in sentence for sentence in _advice().sentences())


def test_lambda_one_within_the_error_is_reported() -> None:
    rough = {name: (gap, best + (0.2 if name in "ad" else -0.2)) for name, (gap, best) in LINE.items()}
    found = _advice(300.0, points=rough)
    assert abs(found.scale - 1) < 0.75 * found.error
    assert any(NEAR in sentence for sentence in found.sentences())
    assert not any(NEAR in sentence for sentence in _advice(100.0).sentences())
    only_active = dataclasses.replace(found, active_ratio=1.0, scale=1.0)
    assert any(NEAR in sentence for sentence in only_active.sentences())


def test_a_domain_is_left_out_of_its_own_line() -> None:
    with_itself = predict_scale("x", 250.0, 0.25, LINE | {"x": (250.0, 9.0)}, "a test")
    assert with_itself == _advice()
    assert "x" not in with_itself.points


def test_too_few_other_domains() -> None:
    few = {name: LINE[name] for name in list(LINE)[: LEAST_POINTS - 1]}
    with pytest.raises(ValueError, match="x: only 2 other domains have a λ\\*; the line needs 3"):
        _advice(points=few | {"x": (250.0, 1.0)})
