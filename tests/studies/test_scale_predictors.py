"""What predicts λ*: on worlds in which a fact does, and on worlds in which none does."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest

from kits.planted import schemas_hold, temporal_sweep
from mmgrid.studies import scale_predictors as study
from mmgrid.studies.scale_case import FEATURES, Case
from mmgrid.studies.scale_folds import predicted, used_features
from mmgrid.studies.statistics.curve import smoother
from mmgrid.studies.statistics.nearest_rows import nearest_mean
from mmgrid.studies.statistics.ridge import Ridge

DOMAINS = "abcdefgh"
YEARS = ("2012-01-01", "2013-01-01", "2014-01-01")


def _case(domain: str, best: float, facts: Mapping[str, float | None], window: str = YEARS[0], **of_sweep) -> Case:
    known = {name: facts.get(name, 0.5) for name in FEATURES}
    return Case(window, "all", temporal_sweep(domain, best, best, n=200, **of_sweep), known)


def _line(window: str = YEARS[0], domains: str = DOMAINS) -> list[Case]:
    """λ* = 0.3 + return rate; the gap says nothing."""
    draw = np.random.default_rng(1)
    places = {domain: 0.2 + 0.12 * place for place, domain in enumerate(DOMAINS)}
    gaps = dict(zip(DOMAINS, draw.permutation(8) * 10.0 + 100, strict=True))
    return [
        _case(domain, 0.3 + places[domain], {"return_rate": places[domain], "gap_days": gaps[domain]}, window)
        for domain in domains
    ]


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return study.answer(_line())


def _of(tables: Mapping[str, pl.DataFrame], table: str, **values) -> list[dict]:
    return tables[table].filter(**values).to_dicts()


def test_the_tables_have_the_declared_schemas(tables) -> None:
    schemas_hold(tables, study.TABLES)
    assert (tables["facts"].height, tables["predictions"].height, tables["predictors"].height) == (8, 8 * 5, 5)
    assert set(tables["predictions"]["fold"]) == {"domain"}


def test_a_left_out_domain_is_predicted_from_the_others_alone(tables) -> None:
    cases = _line()
    best = np.array([case.best.place for case in cases])
    table = np.array([[case.facts[name] for name in FEATURES] for case in cases])
    for place, case in enumerate(cases):
        rest = np.arange(8) != place
        rows = {row["predictor"]: row for row in _of(tables, "predictions", domain=case.domain)}
        assert {row["n_cases"] for row in rows.values()} == {7}
        assert rows["one"]["predicted"] == 1
        assert rows["mean"]["predicted"] == pytest.approx(best[rest].mean())
        slope, start = np.polyfit(table[rest, 0], best[rest], 1)
        assert rows["recency"]["predicted"] == pytest.approx(start + slope * table[place, 0])
        ridge = Ridge.chosen(table[rest], best[rest], [str(row) for row in range(7)])
        assert rows["ridge"]["predicted"] == pytest.approx(float(ridge.at(table[place])))
        assert rows["nearest"]["predicted"] == pytest.approx(nearest_mean(table[rest], best[rest], table[place]))
        for row in rows.values():
            assert row["error"] == abs(row["predicted"] - row["best"])


def test_regret_and_gain_are_differences_of_the_smoothed_curve(tables) -> None:
    case = _line()[0]
    curve = case.sweep.ranked.values("ndcg@20").mean(axis=0)

    def at(scale: float) -> float:
        return 100 * float(smoother(case.sweep.scales, np.array([scale]))[0] @ curve)

    for row in _of(tables, "predictions", domain=case.domain):
        assert row["regret"] == pytest.approx(at(row["best"]) - at(row["predicted"]))
        assert row["gain"] == pytest.approx(at(row["predicted"]) - at(1.0))
        assert row["regret_low"] <= row["regret"] <= row["regret_high"]
        assert row["regret"] > -1e-9  # λ* is the best of the smoothed curve


def test_a_fact_that_predicts_is_found(tables) -> None:
    rows = {row["predictor"]: row for row in _of(tables, "predictors")}
    assert rows["ridge"]["error"] < 0.06 < rows["mean"]["error"]
    assert rows["ridge"]["advantage"] == pytest.approx(rows["mean"]["error"] - rows["ridge"]["error"])
    assert rows["ridge"]["regret"] < rows["mean"]["regret"]
    assert rows["mean"]["advantage"] is None
    assert rows["one"]["gain"] == pytest.approx(0)
    assert rows["ridge"]["features"] == ", ".join(FEATURES)
    verdicts = {row["finding"]: row["verdict"] for row in _of(tables, "findings")}
    assert verdicts["λ* by ridge"] == "reproduced"
    assert verdicts["λ* by recency"] != "reproduced"


def test_noise_predicts_nothing() -> None:
    draw = np.random.default_rng(3)
    cases = [_case(d, draw.uniform(0, 1.5), {name: draw.uniform() for name in FEATURES}) for d in DOMAINS]
    verdicts = [row["verdict"] for row in _of(study.answer(cases), "findings")]
    assert len(verdicts) == 3
    assert "reproduced" not in verdicts


def test_several_years_leave_out_a_domain_in_all_of_them_or_a_year_with_all_domains() -> None:
    cases = [case for year in YEARS for case in _line(year, "abcd")]
    tables = study.answer(cases)
    assert {row["n_cases"] for row in _of(tables, "predictions", fold="domain")} == {9}
    assert {row["n_cases"] for row in _of(tables, "predictions", fold="window")} == {8}
    best = {(case.window, case.domain): case.best.place for case in cases}
    for row in _of(tables, "predictions", predictor="mean"):
        out = (lambda key: key[1]) if row["fold"] == "domain" else (lambda key: key[0])
        here = row["domain"] if row["fold"] == "domain" else row["window"]
        others = [place for key, place in best.items() if out(key) != here]
        assert row["predicted"] == pytest.approx(np.mean(others))
    (ridge,) = _of(tables, "predictors", fold="domain", predictor="ridge")
    assert (ridge["n_domains"], ridge["n_windows"]) == (4, 3)
    errors = {
        d: [r["error"] for r in _of(tables, "predictions", fold="domain", predictor="ridge", domain=d)] for d in "abcd"
    }
    assert ridge["error"] == pytest.approx(np.mean([np.mean(of) for of in errors.values()]))


def test_of_two_years_the_other_one_chooses_the_penalty_by_its_domains() -> None:
    tables = study.answer([case for year in YEARS[:2] for case in _line(year)])
    errors = {row["predictor"]: row["error"] for row in _of(tables, "predictors", fold="window")}
    assert errors["ridge"] < 0.06 < errors["mean"]


def test_few_domains_are_said_to_be_few() -> None:
    three = study.answer(_line(domains="abc"))
    assert set(three["predictors"]["predictor"]) == {
        "one",
        "mean",
        "recency",
    }  # two others are too few for several facts
    assert three["findings"].is_empty()
    assert study.evidence(three) == ["semb, seed 0: 3 domains cannot order predictors; 6 are needed."]
    alone = study.answer(_line(domains="a"))
    schemas_hold(alone, study.TABLES)
    assert alone["predictions"].is_empty()
    assert study.evidence(alone) == ["One domain has no others to predict from."]


def test_five_domains_are_too_few_and_six_are_not() -> None:
    """Were every domain predicted better, sign flips would give p = 2/32 with five domains and 2/64 with six."""
    assert study.answer(_line(domains="abcde"))["findings"].is_empty()
    assert study.answer(_line(domains="abcdef"))["findings"].height == 3


def test_findings_and_edges_are_said() -> None:
    edge = _case("i", 2.5, {"return_rate": 0.4}, steep=0.02)
    sentences = study.evidence(study.answer([*_line(), edge]))
    assert any(
        sentence.startswith("The best λ of a left-out domain is predicted better by ridge") for sentence in sentences
    )
    assert sentences[-1] == "At an end of the sweep, so that the best λ may lie outside: i (2012-01-01)."


def test_a_fact_that_one_case_lacks_is_left_out() -> None:
    cases = [*_line(), _case("i", 0.9, {"norm_ratio": None, "gap_days": 150.0})]
    assert used_features(cases) == tuple(name for name in FEATURES if name != "norm_ratio")
    (row,) = _of(study.answer(cases), "predictors", predictor="ridge")
    assert "norm_ratio" not in row["features"]
    (fact,) = _of(study.answer(cases), "facts", domain="i")
    assert fact["norm_ratio"] is None


def test_a_prediction_is_held_within_the_sweep() -> None:
    """Two domains with almost the same gap make a steep line."""
    cases = [
        _case(d, best, {"gap_days": gap}) for d, best, gap in (("a", 0.4, 100.0), ("b", 1.4, 101.0), ("c", 1.0, 300.0))
    ]
    found = {case.domain: guesses for case, _, guesses in predicted(cases, "domain")}
    assert found["c"]["recency"] == 2.0


def test_a_domain_twice_in_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a \(2012-01-01\): given twice"):
        study.answer([*_line(), *_line(domains="a")])


def test_seeds_are_kept_apart() -> None:
    seeds = [_case(d, 0.5 + seed, {}, seed=seed) for seed in (0, 1) for d in "abcd"]
    tables = study.answer(seeds)
    for seed in (0, 1):
        (row,) = _of(tables, "predictions", seed=seed, domain="a", predictor="mean")
        assert row["predicted"] == pytest.approx(0.5 + seed, abs=0.05)
