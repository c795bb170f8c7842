"""A λ for each part, on worlds in which the parts have their own optimum, and on worlds in which they share it."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest

from kits.planted import SCALES, frame, hits, parabola, schemas_hold, temporal_sweep
from mmgrid.studies import temporal_parts as study
from mmgrid.studies.contract import PartScales
from mmgrid.studies.statistics.curve import crossfitted
from mmgrid.studies.sweep import Sweep

TOP, STEEP = 0.6, 0.12


class World:
    """The share of hits falls with the squared distance of each part's λ from its own optimum."""

    def __init__(self, best: Mapping[str, float], n: int = 400, domains: str = "ab"):
        self.best, self.n = best, n
        self.asked: list[tuple[str, dict[str, float]]] = []
        points = {scale: self._ranks(dict.fromkeys(best, scale)) for scale in SCALES}
        self.sweeps = [Sweep.of("semb", domain, 0, points) for domain in domains]

    def _ranks(self, scales: Mapping[str, float]) -> pl.DataFrame:
        lost = sum(STEEP * (scales[part] - best) ** 2 for part, best in self.best.items())
        return frame(hits(max(0.0, TOP - lost), self.n))

    def ranks_at(self, sweep: Sweep, at: PartScales) -> pl.DataFrame:
        assert at.per == "tower"
        self.asked.append((sweep.domain, dict(at.scales)))
        return self._ranks(at.scales)

    def answer(self) -> dict[str, pl.DataFrame]:
        tables = study.answer(self.sweeps, ["tower"], lambda sweep, per: list(self.best), self.ranks_at)
        schemas_hold(tables, study.TABLES)
        return tables


@pytest.fixture(scope="module")
def world() -> World:
    return World({"item_tower": 0.25, "user_tower": 1.5})


@pytest.fixture(scope="module")
def tables(world: World) -> dict[str, pl.DataFrame]:
    return world.answer()


def test_each_part_gets_its_own_optimum(tables, world) -> None:
    for row in tables["chosen"].to_dicts():
        assert row["single_first"] == pytest.approx(0.875, abs=0.13)
        for half in ("first", "second"):
            assert row[half] == world.best[row["part"]]
    assert tables["chosen"]["part"].to_list() == ["item_tower", "user_tower"] * 2


def test_the_gain_is_what_one_lambda_loses_to_both(tables, world) -> None:
    for row in tables["comparison"].to_dicts():
        single = 0.875  # the middle of both; the nearest measured ones are 0.75 and 1
        lost = sum(STEEP * (single - best) ** 2 for best in world.best.values())
        assert row["parts"] == pytest.approx(100 * TOP, abs=0.3)
        assert row["gain"] == pytest.approx(100 * lost, abs=1)
        assert row["low"] <= row["gain"] <= row["high"]
        assert row["gain"] == pytest.approx(row["parts"] - row["single"])
    (found,) = tables["findings"].to_dicts()
    assert (found["finding"], found["verdict"], found["n"]) == ("λ per tower", "reproduced", 2)


def test_no_point_is_evaluated_twice_nor_one_that_the_sweep_has(world, tables) -> None:
    for domain in "ab":
        asked = [tuple(scales.values()) for of, scales in world.asked if of == domain]
        assert len(asked) == len(set(asked))
        assert all(len(set(scales)) > 1 for scales in asked)
        assert len(asked) <= 2 * 2 * (len(SCALES) - 1) + 2  # two halves, two parts


def test_parts_with_one_optimum_gain_nothing() -> None:
    tables = World({"item_tower": 1.0, "user_tower": 1.0}).answer()
    for row in tables["comparison"].to_dicts():
        assert row["gain"] == 0
    (found,) = tables["findings"].to_dicts()
    assert found["verdict"] == "undecided"


def test_lambdas_that_only_fit_noise_do_not_gain() -> None:
    """Each half chooses by chance; on the other half that is worth nothing, though on its own it would seem so."""
    draw = np.random.default_rng(4)

    def noise(*_) -> pl.DataFrame:
        return frame(draw.integers(0, 40, 300))

    sweeps = [Sweep.of("semb", domain, 0, {scale: noise() for scale in SCALES}) for domain in "abcdef"]
    tables = study.answer(sweeps, ["tower"], lambda sweep, per: ["item_tower", "user_tower"], noise)
    (found,) = tables["findings"].to_dicts()
    assert found["verdict"] == "undecided"


def test_a_model_of_one_part_has_no_rows() -> None:
    tables = study.answer(World({"model": 1.0}).sweeps, ["tower"], lambda sweep, per: ["model"], World({}).ranks_at)
    schemas_hold(tables, study.TABLES)
    assert not any(table.height for table in tables.values())


def _groups(sweeps: list[Sweep]) -> dict[str, pl.DataFrame]:
    def unneeded(*_):
        raise AssertionError("groups of users need no other model")

    return study.answer(sweeps, ["group"], unneeded, unneeded)


def test_each_group_of_users_gets_its_own_optimum() -> None:
    sweeps = [temporal_sweep(domain, 0.25, 1.5) for domain in "ab"]
    tables = _groups(sweeps)
    schemas_hold(tables, study.TABLES)
    chosen = {(row["domain"], row["part"]): (row["first"], row["second"]) for row in tables["chosen"].to_dicts()}
    assert set(chosen) == {(domain, group) for domain in "ab" for group in ("active", "non_active")}
    for (_, group), places in chosen.items():
        assert places == pytest.approx([0.25 if group == "active" else 1.5] * 2, abs=0.25)
    for row in tables["comparison"].to_dicts():
        assert row["gain"] == pytest.approx(100 * 0.12 * 0.625**2, abs=1.2)
        sweep = next(one for one in sweeps if one.domain == row["domain"])
        values = sweep.ranked.values("ndcg@20")
        single = crossfitted(values, sweep.scales, sweep.ranked.first_half(0))
        assert row["single"] == pytest.approx(100 * single.mean())
    (found,) = tables["findings"].to_dicts()
    assert (found["finding"], found["verdict"]) == ("λ per group", "reproduced")


def test_users_of_one_group_alone_have_no_rows() -> None:
    everybody = temporal_sweep("a", 1.0, 1.0, n=60, active=np.ones(60, bool))
    assert not any(table.height for table in _groups([everybody]).values())


def test_the_share_of_the_planted_world_is_that_of_the_kit() -> None:
    """One part alone falls as `parabola`, so gains in both worlds are on one scale."""
    world = World({"model": 0.5})
    (sweep,) = {sweep.domain: sweep for sweep in world.sweeps if sweep.domain == "a"}.values()
    measured = sweep.ranked.values("recall@20").mean(axis=0)
    np.testing.assert_allclose(measured, np.array([parabola(scale, 0.5) for scale in SCALES]), atol=0.01)
