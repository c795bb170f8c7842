"""Estimates of windows and targets, against those of real domains."""

import os
from pathlib import Path

import pytest

from mmgrid.data import READERS, Calendar, prepare, statistics
from mmgrid.paradigms.counts import Counts

CALENDAR = Calendar.from_dates(
    {
        "pretrain": ("2008-07-01", "2013-07-01"),
        "phase1": ("2013-07-01", "2013-10-01"),
        "phase2": ("2013-10-01", "2014-01-01"),
        "test": ("2014-01-01", "2014-04-01"),
    }
)


def test_they_are_near_the_truth_of_a_real_domain() -> None:
    from mmgrid.paradigms import targets, windows

    if "MMGRID_DATA" not in os.environ:
        pytest.skip("MMGRID_DATA does not name a folder of real data")
    raw = READERS["parquet"].read(Path(os.environ["MMGRID_DATA"]) / "amazon14", "toys")  # none of those fitted on
    corpus = prepare(raw, CALENDAR).corpus
    counts = Counts.of(statistics(corpus, CALENDAR).as_dict(), {"title": 60.0})
    for phase in CALENDAR.phases[:3]:
        histories = corpus.before(phase.end).histories(phase.end)
        most = 5 if phase.name == "pretrain" else None
        true_windows = windows(histories, phase, 25)
        true_targets = targets(histories, phase, earlier=4, most_per_user=most, seed=0)
        assert counts.windows(phase.name, 25) == pytest.approx(len(true_windows), rel=0.25)
        length = float((true_windows.stops - true_windows.starts).mean())
        assert counts.window_items(phase.name, 25) == pytest.approx(length, rel=0.25)
        assert counts.targets(phase.name, most) == pytest.approx(len(true_targets), rel=0.25)
        assert counts.context(phase.name, 25) == pytest.approx(true_targets.places.clip(max=25).mean(), rel=0.25)


def test_what_is_missing_has_a_default() -> None:
    numbers = {"interactions": {"pretrain": 700, "phase1": 60, "phase2": 50, "test": 40}, "test_users": 20}
    counts = Counts.of(numbers)
    assert counts.users == pytest.approx(850 / 8.5)
    assert counts.items == pytest.approx(850 / 12)
    assert counts.trained("all") == 810
    assert counts.length("phase1") == pytest.approx(7.6)
    assert Counts.of({**numbers, "users": 10, "items": 7}).items == 7
    assert Counts.of(numbers, {"title": 42.0, "description": 0.0}).text_tokens == pytest.approx(10)
