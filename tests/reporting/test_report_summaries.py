"""The summaries count correctly and claim nothing that the intervals leave open."""

import polars as pl
import pytest

from mmgrid.evaluation import CHANGES_SCHEMA, RESULTS_SCHEMA
from mmgrid.reporting.figures.marks import scale_limit
from mmgrid.reporting.inputs import CELLS_SCHEMA, STATISTICS_SCHEMA
from mmgrid.reporting.tables.comparison import scores
from mmgrid.reporting.tables.merges import pairs, partner
from mmgrid.reporting.text.summaries import (
    cells_summary,
    losses_summary,
    merges_summary,
    scores_summary,
    statistics_summary,
)


def result(domain, model, value, low, high, paradigm="semb", **other):
    row = dict.fromkeys(RESULTS_SCHEMA, "") | {
        "paradigm": paradigm,
        "domain": domain,
        "model": model,
        "group": "all",
        "metric": "ndcg@10",
        "value": value,
        "low": low,
        "high": high,
        "parameter": None,
        "n_users": 100,
        "seed": 0,
    }
    return row | other


def frame(*rows, schema=RESULTS_SCHEMA):
    return pl.DataFrame(list(rows), schema=schema)


def test_overlapping_intervals_do_not_order_two_recommenders():
    clear = [result("a", "phase2", 5.0, 4.5, 5.5), result("a", "phase2", 3.0, 2.5, 3.5, "sasrec")]
    open_ = [result("b", "phase2", 5.0, 3.0, 7.0), result("b", "phase2", 4.0, 2.0, 6.0, "sasrec")]
    text = scores_summary(scores(frame(*clear, *open_), []), "all")
    assert text.startswith("By NDCG@10 over all users, semb is best in 2 of 2 domains.")
    assert "In b the intervals of the two best overlap, so their order is open." in text


def test_a_model_is_better_than_popularity_only_if_its_interval_lies_above():
    rows = [
        result("a", "phase2", 4.0, 3.5, 4.5),
        result("a", "popularity", 2.0, 1.5, 2.5, "baseline"),
        result("b", "phase2", 2.2, 1.5, 3.0),
        result("b", "popularity", 2.0, 1.5, 2.5, "baseline"),
    ]
    text = scores_summary(scores(frame(*rows), []), "all")
    assert text == (
        "The interval of 1 of 2 models lies above that of popularity, by a factor of 2.0; exceptions: semb on b."
    )
    text = scores_summary(scores(frame(*rows[2:]), []), "all")
    assert text == "The interval of 0 of 1 model lies above that of popularity."  # all are exceptions


def test_only_paired_intervals_decide_about_merges():
    single = [result(name, "phase2", 4.0, 3.0, 5.0) for name in "ab"]
    merge = {"merge": "linear", "sources": "a+b", "parameter": 0.5}
    merged = [result("a", "a+b", 3.0, 2.0, 4.0, **merge), result("b", "a+b", 4.4, 3.0, 5.0, **merge)]
    results = frame(*single, *merged)
    without_intervals = merges_summary(pairs(results, CHANGES_SCHEMA.to_frame(), []), "all")
    assert "1 of 2 merged models is worse than the domain’s own model and 1 is better" in without_intervals
    assert "it is open which of these changes are more than chance" in without_intervals
    changes = pl.DataFrame(
        [
            {
                **{key: row[key] for key in ("paradigm", "domain", "model", "group", "metric", "n_users", "seed")},
                **merge,
                "reference": "phase2",
                "relative_low": low,
                "relative_high": high,
            }
            for row, low, high in zip(merged, (-40.0, -5.0), (-10.0, 25.0), strict=True)
        ],
        schema=CHANGES_SCHEMA,
    )
    found = pairs(results, changes, [])
    assert found["change"].to_list() == pytest.approx([-25.0, 10.0])
    assert found["partner"].to_list() == ["b", "a"]
    assert found["significant"].to_list() == [True, False]
    text = merges_summary(found, "all")
    assert "excludes zero for 1 of the former and 0 of the latter, and includes zero for 1." in text
    assert "−25.0 % [−40.0, −10.0] (semb, a merged with b by linear, 0.5)" in text
    assert "not corrected for 2 comparisons" in text


@pytest.mark.parametrize(
    ("sources", "domain", "expected"),
    [
        ("semb/toys/phase2+semb/beauty/phase2", "toys", "beauty"),
        ("toys+beauty", "beauty", "toys"),
        ("toys+beauty", "books", None),
        ("toys/phase1+toys/phase2", "toys", None),
        ("toys+beauty+books", "toys", None),
        ("old toys+toys", "toys", "old toys"),
        ("c++/d+toys", "toys", "c++/d"),
        (None, "toys", None),
    ],
)
def test_the_partner_of_a_merge(sources, domain, expected):
    assert partner(sources, domain, {"toys", "beauty", "books", "old toys", "c++/d"}) == expected


def test_colours_end_at_a_round_number():
    changes = pl.Series("change", [-3.0, 2.0, 17.0])
    assert scale_limit(changes) == 20.0
    assert scale_limit(changes.clear()) == 10.0
    assert scale_limit(pl.Series([-0.05, 0.31]), percent=False) == 0.4


def test_cells_are_counted_and_failures_named():
    def cell(name, state, seconds=None, problem=None):
        about = {"kind": "x", "name": name, "state": state, "seconds": seconds, "problem": problem}
        return dict.fromkeys(CELLS_SCHEMA) | about

    text = cells_summary(
        frame(cell("a", "built", 90.0), cell("b", "built", 4000.0), cell("c", "failed"), schema=CELLS_SCHEMA)
    )
    assert text == (
        "2 of 3 cells are built, 1 failed; building them took 1 h 08 min in total, the longest 1 h 07 min (b). Failed: c."
    )
    text = cells_summary(frame(cell("c", "failed", problem="a.csv: is empty."), schema=CELLS_SCHEMA))
    assert text == "0 of 1 cell is built, 1 failed. Failed: c (a.csv: is empty)."
    assert cells_summary(frame(cell("a", "missing"), schema=CELLS_SCHEMA)) == "0 of 1 cell is built, 1 missing."


def test_statistics_name_the_extremes():
    def domain(name, users, active, gap):
        return dict.fromkeys(STATISTICS_SCHEMA) | {
            "domain": name,
            "test_users": users,
            "active": active,
            "gap_days": gap,
        }

    both = frame(domain("a", 1000, 250, 400.0), domain("b", 3000, 1500, 600.0), schema=STATISTICS_SCHEMA)
    text = statistics_summary(both)
    assert "1,000 to 3,000 test users; 25 % (a) to 50 % (b) of them" in text
    assert "shortest in a (400 days) and longest in b (600 days)" in text
    assert statistics_summary(both.head(1)) == "a has 1,000 test users; 25 % are active. The mean gap is 400 days."
    nobody = frame(domain("a", 0, 0, float("nan")), schema=STATISTICS_SCHEMA)
    assert statistics_summary(nobody) == "No domain has test users in these phases."


def test_trainings_whose_loss_did_not_fall_are_named():
    def curve(domain, losses, seed=0):
        return pl.DataFrame(
            {
                "paradigm": "semb",
                "domain": domain,
                "phase": "phase1",
                "seed": seed,
                "step": list(range(len(losses))),
                "epoch": [float(step) for step in range(len(losses))],
                "loss": losses,
            }
        )

    text = losses_summary(
        pl.concat([curve("a", [3.0, 2.0, 1.0]), curve("b", [1.0, 2.0, 3.0]), curve("c", [2.0, float("nan"), 1.0])])
    )
    assert text.startswith("In 2 of 3 trainings")
    assert "exceptions: semb on b in phase1." in text
    assert "not finite were logged by semb on c in phase1" in text
    text = losses_summary(pl.concat([curve("a", [3.0, 1.0]), curve("a", [1.0, 3.0], seed=1)]))
    assert text == (
        "In 1 of 2 trainings the mean loss of the last tenth of the logged steps is lower than that of the first "
        "tenth; exceptions: semb on a in phase1 with seed 1."
    )
