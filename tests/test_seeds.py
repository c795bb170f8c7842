"""Seeds: the same for ever, and independent of each other."""

import numpy as np
import pytest

from mmgrid.seeds import derive, generator


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((0,), 4246866556266386882),
        ((0, "negatives", 3, 17), 1443814061160388950),
        ((7, "checkpoint", "semb", "books", "phase1"), 1871597511614229993),
    ],
)
def test_golden_values(names: tuple, expected: int) -> None:
    """Pinned: were one to change, every grid that was ever built would be built anew, and differ."""
    assert derive(*names) == expected


def test_golden_draws() -> None:
    assert generator(0, "negatives", 0, 0).integers(1000, size=4).tolist() == [786, 529, 977, 886]


def test_names_are_told_apart_by_order_type_and_border() -> None:
    seeds = [
        derive(0, "a", "b"),
        derive(0, "b", "a"),
        derive(0, "ab"),
        derive(0, "a", "b", ""),
        derive(0, "astr:b"),
        derive(0, 1),
        derive(0, "1"),
        derive(0, 11),
        derive(0, 1, 1),
        derive(1),
        derive(11),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_number_is_a_number_whoever_made_it() -> None:
    assert derive(0, "order", np.int64(3)) == derive(np.int64(0), "order", 3)


def test_what_is_no_name_is_refused() -> None:
    with pytest.raises(TypeError):
        derive(0, 0.5)  # type: ignore[arg-type]


def test_streams_of_neighbouring_names_are_independent() -> None:
    """No correlation between 200 streams that differ in one number: all |r| stay within chance."""
    streams = np.stack([generator(0, "negatives", 0, index).standard_normal(2000) for index in range(200)])
    correlations = np.corrcoef(streams)[np.triu_indices(200, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)
    assert abs(correlations.std() * np.sqrt(2000) - 1) < 0.05


def test_no_global_generator_is_drawn_from_or_changed() -> None:
    np.random.seed(0)  # noqa: NPY002 (the one thing under test)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = generator(3, "a").random(5)
    np.random.seed(1)  # noqa: NPY002
    assert (generator(3, "a").random(5) == first).all()
    np.random.seed(0)  # noqa: NPY002
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
