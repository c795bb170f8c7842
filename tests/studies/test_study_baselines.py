"""The comparisons of Table 2, on ranks written by hand."""

import numpy as np
import pytest

from kits.planted import frame, hits, schemas_hold
from mmgrid.evaluation import holm, result_rows
from mmgrid.studies import baselines
from mmgrid.studies.baselines import SCORES_SCHEMA, Compared
from mmgrid.studies.statistics.ranked import Ranked


def _compared(domain: str, share: float, *, seed: int = 0, n: int = 120) -> Compared:
    frames = {"semb": frame(hits(share, n)), "popularity": frame(hits(0.3, n)), "sasrec": frame(hits(0.5, n))}
    return Compared("semb", seed, domain, "semb", Ranked.of(frames))


def test_each_reference_is_compared_on_the_same_users() -> None:
    scores = result_rows(hits(0.5, 30), np.arange(30) < 10, paradigm="semb", domain="a", model="phase2")
    tables = baselines.answer([_compared("a", 0.5), _compared("b", 0.7, seed=1)], scores)
    schemas_hold(tables, baselines.TABLES)
    assert tables["scores"].equals(scores)
    found = {(r["domain"], r["reference"], r["metric"]): r for r in tables["comparisons"].to_dicts()}
    assert len(found) == 2 * 2 * 4
    for (domain, reference, _), row in found.items():
        expected = {"a": 50, "b": 70}[domain] - {"popularity": 30, "sasrec": 50}[reference]
        assert row["difference"] == pytest.approx(expected, abs=1)
        assert row["low"] <= row["difference"] <= row["high"]
        assert (row["seed"], row["n_users"], row["model"]) == ({"a": 0, "b": 1}[domain], 120, "semb")
        assert (row["p_adjusted"] < 0.05) == (expected != 0)
    for part in tables["comparisons"].partition_by("seed", "metric"):
        np.testing.assert_allclose(part["p_adjusted"], holm(part["p"].to_numpy()))


def test_no_references_give_empty_comparisons() -> None:
    tables = baselines.answer([], SCORES_SCHEMA.to_frame())
    schemas_hold(tables, baselines.TABLES)
    alone = Compared("semb", 0, "a", "semb", Ranked.of({"semb": frame(hits(0.5, 9))}))
    assert baselines.answer([alone], SCORES_SCHEMA.to_frame())["comparisons"].height == 0


@pytest.mark.parametrize(
    ("own", "lower", "verdict"),
    [(0.8, 0.2, "reproduced"), (0.2, 0.8, "not reproduced"), (0.5, 0.5, "undecided")],
)
def test_the_order_of_paradigms_is_judged_by_its_interval(own: float, lower: float, verdict: str) -> None:
    ranked = Ranked.of({"semb": frame(hits(own, 120)), "semid": frame(hits(lower, 120))})
    alone = Ranked.of({"semb": frame(hits(own, 120))})
    compared = [Compared("semb", 3, domain, "semb", alone, "semid", ranked) for domain in "ab"]
    (found,) = baselines.answer(compared, SCORES_SCHEMA.to_frame())["findings"].to_dicts()
    assert (found["finding"], found["paradigm"], found["n"]) == ("order of paradigms", "semb", 2)
    assert found["low"] <= found["value"] <= found["high"]
    assert (found["verdict"], found["seed"]) == (verdict, 3)
