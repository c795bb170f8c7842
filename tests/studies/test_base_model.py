"""The study of another base, on pairs of domains with a planted kept share for each base."""

import numpy as np
import polars as pl
import pytest

from kits.planted import frame, hits, parabola, schemas_hold
from mmgrid.studies import base_model
from mmgrid.studies.base_model import BACKBONE, HISTORICAL, NEUTRAL, SINGLE
from mmgrid.studies.statistics.kept_share import PairSweep
from mmgrid.studies.statistics.ranked import Ranked

ALPHAS = np.round(np.arange(0, 1.01, 0.125), 3)
SINGLE_SHARE = 0.5


def _sweep(
    base: str,
    top: float,
    best: float = 0.5,
    *,
    first: str = "a",
    second: str = "b",
    n: int = 300,
    single: float = SINGLE_SHARE,
    seed: int = 0,
    paradigm: str = "semb",
) -> PairSweep:
    """Both domains get `top` at the best α; the second domain has more users."""
    ranked = []
    for users in (n, n + 50):
        frames = {SINGLE: frame(hits(single, users))}
        frames |= {repr(float(x)): frame(hits(parabola(x, best, top, steep=0.4), users)) for x in ALPHAS}
        ranked.append(Ranked.of(frames))
    return PairSweep(paradigm, seed, first, second, base, ALPHAS, *ranked)


def _pair(backbone: float, historical: float, neutral: float, **values) -> list[PairSweep]:
    first, second = values.get("first", "a"), values.get("second", "b")
    kept = {BACKBONE: backbone, f"{HISTORICAL}{first}": historical, f"{HISTORICAL}{second}": historical}
    return [_sweep(base, top, **values) for base, top in (kept | {NEUTRAL: neutral}).items()]


def _verdicts(tables: dict[str, pl.DataFrame]) -> dict[str, str]:
    return {row["finding"]: row["verdict"] for row in tables["findings"].to_dicts()}


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    """Each base is better than the one before."""
    return base_model.answer(_pair(0.2, 0.3, 0.4, best=0.25))


def test_the_tables_have_the_declared_schemas(tables) -> None:
    schemas_hold(tables, base_model.TABLES)
    assert tables["curve"].height == 4 * 4 * len(ALPHAS)
    assert tables["best"].height == 4


def test_the_joint_curve_has_both_domains_and_the_kept_share(tables) -> None:
    rows = tables["curve"].filter((pl.col("base") == BACKBONE) & (pl.col("metric") == "recall@20")).to_dicts()
    assert [row["alpha"] for row in rows] == ALPHAS.tolist()
    for row in rows:
        for side, users in (("first", 300), ("second", 350)):
            value = 100 * np.mean(hits(parabola(row["alpha"], 0.25, 0.2, steep=0.4), users) == 0)
            assert row[f"{side}_value"] == pytest.approx(value)
            assert row[f"{side}_low"] <= value <= row[f"{side}_high"]
            assert row[f"{side}_single"] == pytest.approx(50, abs=0.5)
            assert row[f"{side}_users"] == users
        shares = [row[f"{side}_value"] / row[f"{side}_single"] for side in ("first", "second")]
        assert row["kept"] == pytest.approx(100 * min(shares))
        assert row["kept_low"] <= row["kept"] <= row["kept_high"]
        assert row["kept_mean"] == pytest.approx(100 * np.mean(shares))


def test_the_planted_alpha_and_its_kept_share_are_found(tables) -> None:
    for row in tables["best"].to_dicts():
        top = {BACKBONE: 0.2, NEUTRAL: 0.4}.get(row["base"], 0.3)
        assert row["alpha"] == pytest.approx(0.25, abs=0.05)
        assert row["alpha_low"] <= row["alpha"] <= row["alpha_high"]
        assert row["kept"] == pytest.approx(100 * top / SINGLE_SHARE, abs=3)
        assert row["low"] <= row["kept"] <= row["high"]
        if row["base"] == BACKBONE:
            assert [row[name] for name in ("gain", "gain_low", "gain_high", "p", "p_adjusted")] == [None] * 5
        else:
            assert row["gain"] == pytest.approx(100 * (top - 0.2) / SINGLE_SHARE, abs=3)
            assert 0 < row["gain_low"] <= row["gain"] <= row["gain_high"]
            assert row["p"] < row["p_adjusted"] < 0.05


def test_better_bases_are_reproduced(tables) -> None:
    assert _verdicts(tables) == {
        "base replacement": "reproduced",
        "neutral base": "reproduced",
        "neutral against historical": "reproduced",
    }
    for row in tables["findings"].to_dicts():
        assert row["low"] <= row["value"] <= row["high"]


def test_a_worse_base_is_not_reproduced_and_an_equal_one_is_undecided() -> None:
    assert _verdicts(base_model.answer(_pair(0.4, 0.2, 0.4))) == {
        "base replacement": "not reproduced",
        "neutral base": "undecided",
        "neutral against historical": "reproduced",
    }


def test_without_the_backbone_nothing_is_compared() -> None:
    tables = base_model.answer([_sweep(NEUTRAL, 0.4)])
    schemas_hold(tables, base_model.TABLES)
    assert (tables["best"]["gain"].null_count(), tables["findings"].height) == (1, 0)
    assert not any(table.height for table in base_model.answer([]).values())


def test_each_seed_and_paradigm_has_its_own_findings() -> None:
    tables = base_model.answer(
        [
            *_pair(0.2, 0.4, 0.4, seed=1),
            *_pair(0.4, 0.2, 0.2, paradigm="semid"),
            *_pair(0.2, 0.4, 0.4, seed=1, first="b", second="c"),
        ]
    )
    found = {(row["paradigm"], row["seed"]): row for row in tables["findings"].to_dicts() if "base r" in row["finding"]}
    assert {run: (row["verdict"], row["n"]) for run, row in found.items()} == {
        ("semb", 1): ("reproduced", 4),
        ("semid", 0): ("not reproduced", 2),
    }


def test_pairs_that_share_a_domain_are_not_treated_as_independent() -> None:
    """The users of one domain determine every gain, so the mean of two pairs is no more certain than one pair."""
    draw = np.random.default_rng(0)
    noisy = {x: np.where(draw.random(60) < 0.5, 0, -1) for x in ("single", "low", "high")}
    calm = np.zeros(60, int)

    def sweep(first: str, second: str, base: str) -> PairSweep:
        ranked = []
        for domain in (first, second):
            single, merged = (noisy["single"], noisy["low" if base == BACKBONE else "high"])
            of = (single, merged) if domain == "b" else (calm, calm)
            ranked.append(Ranked.of({SINGLE: frame(of[0])} | {repr(float(x)): frame(of[1]) for x in ALPHAS}))
        return PairSweep("semb", 0, first, second, base, ALPHAS, *ranked)

    def width(pairs: list[tuple[str, str]]) -> float:
        tables = base_model.answer([sweep(*pair, base) for pair in pairs for base in (BACKBONE, NEUTRAL)])
        (row,) = tables["findings"].to_dicts()
        return row["high"] - row["low"]

    assert width([("a", "b"), ("b", "c")]) == pytest.approx(width([("a", "b")]), rel=1e-9)


def test_a_single_model_that_finds_nothing_gives_nan() -> None:
    tables = base_model.answer(_pair(0.2, 0.3, 0.4, n=40, single=0.0))
    schemas_hold(tables, base_model.TABLES)
    assert not any(np.isfinite(value) for value in tables["curve"]["kept"])
    for row in tables["best"].to_dicts():
        assert not [value for name in ("kept", "gain", "p_adjusted") if np.isfinite(value := row[name] or np.nan)]
    assert set(_verdicts(tables).values()) == {"undecided"}


def _curve(first_hits, second_hits, n: int = 400) -> PairSweep:
    """The domains' shares of hits are functions of α; a single model has half of all."""
    ranked = [
        Ranked.of({SINGLE: frame(hits(0.5, n))} | {repr(float(x)): frame(hits(share(x), n)) for x in ALPHAS})
        for share in (first_hits, second_hits)
    ]
    return PairSweep("semb", 0, "a", "b", BACKBONE, ALPHAS, *ranked)


def test_a_merge_that_gives_one_domain_up_keeps_nothing_of_both() -> None:
    """The mean of the shares is 50 % at every α, the smaller one at most at α = 0.5; below the straight line is half."""
    (row,) = base_model.answer([_curve(lambda x: 0.5 * x, lambda x: 0.5 * (1 - x))])["best"].to_dicts()
    assert row["alpha"] == pytest.approx(0.5, abs=0.02)
    assert row["kept"] == pytest.approx(50, abs=3)
    assert row["mean"] == pytest.approx(50, abs=3)
    assert row["area"] == pytest.approx(50, abs=3)
    assert row["area_low"] < row["area"] < row["area_high"]


def test_the_smaller_share_decides_where_the_mean_would_not() -> None:
    """The mean is largest at α = 1, where the second domain has nothing."""
    (row,) = base_model.answer([_curve(lambda x: 0.5 * x**0.25, lambda x: 0.25 * (1 - x))])["best"].to_dicts()
    assert row["alpha"] < 0.2
    assert row["kept"] == pytest.approx(50, abs=8)


def test_a_merge_that_keeps_all_of_both_has_the_whole_area() -> None:
    (row,) = base_model.answer([_curve(lambda x: 0.5, lambda x: 0.5)])["best"].to_dicts()
    assert (row["kept"], row["mean"], row["area"]) == pytest.approx((100, 100, 100), abs=2)


def test_several_draws_are_averaged_and_widen_the_interval() -> None:
    def answered(shares: list[float]) -> dict:
        ranked = Ranked.of(
            {SINGLE: [frame(hits(0.5, 300))]}
            | {repr(float(x)): [frame(hits(share, 300)) for share in shares] for x in ALPHAS}
        )
        sweep = PairSweep("semb", 0, "a", "b", BACKBONE, ALPHAS, ranked, ranked)
        (row,) = base_model.answer([sweep])["best"].to_dicts()
        return row

    one, several = answered([0.25]), answered([0.15, 0.2, 0.3, 0.35])
    assert several["draws"] == 4
    assert several["kept"] == pytest.approx(one["kept"], abs=2)
    assert several["high"] - several["low"] > 1.5 * (one["high"] - one["low"])
