"""Eq. 11: the line through other domains, and the paper's own numbers through it."""

import numpy as np
import pytest

from mmgrid.studies.statistics.leave_one_out_line import PAPER_POINTS, LineFit, blended, left_out

# Table 4's ratio of active users, and the λ̃ → λ̂ that follow from the table: eq. 11 by hand, once.
PAPER = {
    "Health_and_Household": (0.394, 0.647, 0.786),
    "Sports_and_Outdoors": (0.449, 0.873, 0.930),
    "Movies_and_TV": (0.348, 0.867, 0.913),
    "Video_Games": (0.452, 1.031, 1.017),
    "Books": (0.458, 1.193, 1.105),
    "Cell_Phones_and_Accessories": (0.399, 1.090, 1.054),
}


@pytest.mark.parametrize("domain", PAPER)
def test_table_4_of_the_paper_gives_its_predictions(domain: str) -> None:
    active_ratio, predicted, advised = PAPER[domain]
    line = left_out(PAPER_POINTS, domain)
    found = line.at(PAPER_POINTS[domain][0])
    assert line.n == 5
    assert line.slope < 0  # the larger the gap, the smaller λ*
    assert round(found, 3) == predicted
    assert round(blended(found, active_ratio), 3) == advised


def test_every_domain_of_the_paper_is_included() -> None:
    assert PAPER_POINTS.keys() == PAPER.keys()


def test_the_line_is_that_of_least_squares() -> None:
    draw = np.random.default_rng(0)
    gaps, places = draw.uniform(300, 700, 8), draw.normal(1, 0.2, 8)
    line = LineFit.of(list(zip(gaps, places, strict=True)))
    slope, intercept = np.polyfit(gaps, places, 1)
    assert (line.slope, line.intercept, line.n) == (pytest.approx(slope), pytest.approx(intercept), 8)
    assert line.at(500) == pytest.approx(intercept + 500 * slope)


def test_two_points_give_a_line_and_a_single_gap_is_refused() -> None:
    assert LineFit.of([(100, 2.0), (300, 1.0)]).at(200) == pytest.approx(1.5)
    for points in ([], [(100.0, 1.0)], [(100.0, 1.0), (100.0, 2.0)]):
        with pytest.raises(ValueError, match=f"two domains with different gaps; there are {len(points)} domains"):
            LineFit.of(points)


def test_a_domain_does_not_influence_its_own_line() -> None:
    points = {"a": (100.0, 1.0), "b": (200.0, 0.8), "c": (300.0, 0.6)}
    assert left_out(points, "c") == left_out(points | {"c": (300.0, 99.0)}, "c")
    assert left_out(points, "elsewhere").n == 3


def test_active_users_pull_towards_one() -> None:
    assert blended(0.5, 0.0) == 0.5
    assert blended(0.5, 1.0) == 1.0
    assert blended(0.5, 0.4) == pytest.approx(0.7)
