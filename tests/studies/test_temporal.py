"""The temporal study on worlds where the best λ of each group is planted."""

import numpy as np
import polars as pl
import pytest

from kits.planted import SCALES, frame, hits, schemas_hold, temporal_sweep
from mmgrid.evaluation import holm, per_user
from mmgrid.studies import temporal
from mmgrid.studies.statistics.curve import Best
from mmgrid.studies.sweep import Sweep
from mmgrid.studies.temporal import BEST_SCHEMA

Tables = dict[str, pl.DataFrame]


def _rows(tables: Tables, table: str, **values: object) -> list[dict]:
    frame = tables[table]
    for name, value in values.items():
        frame = frame.filter(pl.col(name) == value)
    return frame.to_dicts()


@pytest.fixture(scope="module")
def tables() -> Tables:
    """Three domains: λ = 1 is best for active users everywhere; for the others 0.25, 1 and 1.75 are."""
    return temporal.answer([temporal_sweep(d, 1.0, best) for d, best in (("a", 0.25), ("b", 1.0), ("c", 1.75))])


def test_the_tables_have_the_declared_schemas(tables: Tables) -> None:
    schemas_hold(tables, temporal.TABLES)
    assert tables["curve"].height == 3 * 3 * 4 * len(SCALES)
    assert tables["best"].height == 3 * 3


def test_the_planted_lambda_of_each_group_is_found(tables: Tables) -> None:
    for domain, best in (("a", 0.25), ("b", 1.0), ("c", 1.75)):
        for group, wanted in (("active", 1.0), ("non_active", best), ("all", (1 + best) / 2)):
            (row,) = _rows(tables, "best", domain=domain, group=group)
            assert row["best"] == pytest.approx(wanted, abs=0.06), (domain, group)
            assert row["best_low"] <= row["best"] <= row["best_high"]
            assert row["n_users"] == (600 if group == "all" else 300)
            assert not row["at_edge"]


def test_values_are_in_percent_at_the_measured_points(tables: Tables) -> None:
    (row,) = _rows(tables, "best", domain="a", group="non_active")
    curve = {r["scale"]: r for r in _rows(tables, "curve", domain="a", group="non_active", metric="ndcg@20")}
    assert sorted(curve) == list(SCALES)
    assert curve[0.25]["value"] == pytest.approx(60, abs=1)
    assert row["value_at_one"] == curve[1.0]["value"]
    assert row["value_at_zero"] == curve[0.0]["value"]
    assert row["value_at_best"] == curve[0.25]["value"]
    for point in curve.values():
        assert point["low"] <= point["value"] <= point["high"]
        assert point["smooth"] == pytest.approx(point["value"], abs=0.7)


def test_the_gain_is_that_of_the_planted_lambda_over_one(tables: Tables) -> None:
    (far,) = _rows(tables, "best", domain="a", group="non_active")
    assert far["gain"] == pytest.approx(100 * 0.12 * 0.75**2, abs=1.5)
    assert far["gain_low"] > 0
    assert far["p_adjusted"] < 0.05
    (none,) = _rows(tables, "best", domain="b", group="all")
    assert none["gain"] == pytest.approx(0, abs=0.3)
    found = tables["best"]
    np.testing.assert_allclose(found["p_adjusted"], holm(found["p"].to_numpy()))


def test_a_world_in_which_lambda_one_is_not_always_best_is_reproduced() -> None:
    tables = temporal.answer([temporal_sweep(d, best, best, n=400) for d, best in (("a", 0.0), ("b", 1.0))])
    (row,) = _rows(tables, "findings")
    assert (row["finding"], row["verdict"], row["value"], row["n"]) == ("λ ≠ 1", "reproduced", 1.0, 2)
    assert row["p"] == min(row["p_adjusted"] for row in _rows(tables, "best", group="all")) < 0.05


def test_less_variable_active_users_are_reproduced(tables: Tables) -> None:
    (active,) = _rows(tables, "findings", finding="active users")
    assert active["verdict"] == "reproduced"
    assert active["value"] == pytest.approx(0.75**2, abs=0.09)
    assert active["low"] <= active["value"] <= active["high"]


def test_more_variable_active_users_are_not_reproduced() -> None:
    tables = temporal.answer([temporal_sweep(d, best, 1.0) for d, best in (("a", 0.25), ("b", 1.0), ("c", 1.75))])
    (active,) = _rows(tables, "findings", finding="active users")
    assert active["verdict"] == "not reproduced"
    assert active["high"] < 0


def test_sampling_noise_of_lambda_does_not_count_as_variance() -> None:
    """λ* is 1 for all users; one group is small, so its measured λ* differs between domains by chance alone."""
    draw, decided = np.random.default_rng(3), []
    for _ in range(25):
        sweeps = []
        for domain in "abcde":
            sweep = temporal_sweep(domain, 1.0, 1.0, n=2)
            places = {"active": draw.normal(1, 0.05), "non_active": draw.normal(1, 0.25)}
            sweep.__dict__["best"] = {
                group: Best(
                    place, 0, 0, place + draw.normal(0, {"active": 0.05, "non_active": 0.25}[group], 400), False
                )
                for group, place in places.items()
            }
            sweeps.append(sweep)
        (row,) = temporal._findings(sweeps, BEST_SCHEMA.to_frame())
        decided.append(row["verdict"])
    assert decided.count("undecided") >= 24


def test_a_world_in_which_lambda_one_is_best_is_not_reproduced() -> None:
    tables = temporal.answer([temporal_sweep(d, 1.0, 1.0, n=4000, steep=0.2) for d in ("a", "b")])
    (row,) = _rows(tables, "findings")
    assert (row["finding"], row["verdict"], row["value"]) == ("λ ≠ 1", "not reproduced", 0.0)


def test_a_world_of_noise_is_undecided() -> None:
    draw = np.random.default_rng(1)
    points = {scale: frame(draw.integers(0, 60, 40)) for scale in SCALES}
    tables = temporal.answer([Sweep.of("semb", "a", 0, points)])
    (row,) = _rows(tables, "findings")
    assert (row["verdict"], row["value"]) == ("undecided", 0.0)


def test_only_the_selected_groups_with_users_have_rows() -> None:
    everybody = temporal_sweep("a", 1.0, 1.0, n=60, active=np.ones(60, bool))
    tables = temporal.answer([everybody])
    assert tables["best"]["group"].to_list() == ["all", "active"]
    assert set(tables["curve"]["group"]) == {"all", "active"}
    tables = temporal.answer([temporal_sweep("a", 1.0, 1.0, n=60)], ["non_active"])
    schemas_hold(tables, temporal.TABLES)
    assert tables["best"]["group"].to_list() == ["non_active"]
    assert tables["findings"].height == 0  # one domain, and nothing known of all users


def test_no_sweeps_give_empty_tables() -> None:
    tables = temporal.answer([])
    schemas_hold(tables, temporal.TABLES)
    assert not any(table.height for table in tables.values())


def test_paradigms_and_seeds_have_their_own_findings() -> None:
    runs = [("semb", 0, 0.25), ("semb", 1, 1.0), ("pooled", 0, 1.75)]
    sweeps = [
        temporal_sweep(domain, 1.0, best, n=200, paradigm=paradigm, seed=seed)
        for domain in ("a", "b", "c")  # the runs in turns, as no caller has sorted them
        for paradigm, seed, best in runs
    ]
    tables = temporal.answer(sweeps)
    found = _rows(tables, "findings", finding="active users")
    assert {(row["paradigm"], row["seed"]) for row in found} == {(paradigm, seed) for paradigm, seed, _ in runs}
    assert {row["n"] for row in found} == {3}
    for paradigm, seed, best in runs:
        rows = _rows(tables, "best", paradigm=paradigm, seed=seed, group="non_active")
        assert [row["best"] for row in rows] == pytest.approx([best] * 3, abs=0.1)


# ---- the sweep itself --------------------------------------------------------------------------------------------


def test_a_sweep_keeps_the_users_that_all_points_have() -> None:
    many, few = frame(hits(0.5, 50)), frame(hits(0.5, 50)).sample(20, seed=0)
    sweep = Sweep.of("semb", "a", 0, {1.0: many, 0.5: few, 0.0: many})
    assert len(sweep.ranked) == 20
    assert sweep.ranked.user_ids.tolist() == sorted(few["user_id"])
    assert sweep.scales.tolist() == [0.0, 0.5, 1.0]
    assert [sweep.at(scale) for scale in (-3.0, 0.6, 0.8)] == ["0.0", "0.5", "1.0"]
    wanted = per_user(many.join(few, on="user_id", how="semi").sort("user_id")["rank"].to_numpy(), ("ndcg@20",))
    np.testing.assert_array_equal(sweep.ranked.values("ndcg@20", ("0.0",)), wanted)


def test_points_of_other_users_or_targets_are_refused() -> None:
    one = frame(hits(0.5, 20))
    others = one.with_columns(user_id=pl.lit("v") + pl.col("user_id")), one.with_columns(target=pl.col("target") + 1)
    for other in others:
        with pytest.raises(ValueError, match="ranked for different users or targets"):
            Sweep.of("semb", "a", 0, {0.0: one, 1.0: other})


def test_the_halves_depend_on_seed_and_user_alone() -> None:
    ranked = temporal_sweep("a", 1.0, 1.0, n=400).ranked
    half = ranked.first_half(3)
    assert 160 < half.sum() < 240
    some = ranked.where(np.arange(400) % 7 == 0)
    np.testing.assert_array_equal(some.first_half(3), half[np.arange(400) % 7 == 0])
    assert (ranked.first_half(4) != half).any()
