"""The estimate of a run's remaining time."""

from pathlib import Path

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.store import Store


def _corpora(n: int) -> list[Cell]:
    return [Cell("corpus", (f"d{place}",), {"domain": f"d{place}"}) for place in range(n)]


def test_the_remaining_work_is_divided_by_the_jobs(tmp_path: Path) -> None:
    cells = _corpora(4)
    alone, together = (TimeLeft(cells, {}, Store(tmp_path), jobs) for jobs in (1, 3))
    assert alone.without("corpus/d0") == 9.0  # three at three seconds each, by the rates
    assert together.without("corpus/d0") == 3.0
    assert [alone.without(f"corpus/d{place}") for place in (1, 2, 3)] == [6.0, 3.0, 0]


def test_built_cells_give_the_cost_of_similar_ones(tmp_path: Path) -> None:
    cells, store = _corpora(3), Store(tmp_path)
    store.build(cells[0].address, {"domain": "d0"}, {}, lambda folder: {})
    seconds = store.record(cells[0].address).seconds
    left = TimeLeft(cells, {}, store, 1).without("corpus/d0")
    assert left == (2 * seconds or 6.0)


def test_the_cost_of_a_cell_without_its_corpus_is_unknown(tmp_path: Path) -> None:
    (corpus,) = _corpora(1)
    recipe = {"paradigm": "baseline", "domain": "d0", "model": "random", "max_users": None}
    ranked = Cell("evaluation", ("baseline", "d0", "random"), recipe, {"corpus": corpus})
    assert TimeLeft([corpus, ranked], {}, Store(tmp_path), 1).without("corpus/d0") is None
    assert TimeLeft([corpus, ranked], {}, Store(tmp_path), 1).without(ranked.name) == 3.0


def test_a_damaged_record_is_ignored(tmp_path: Path) -> None:
    cells, store = _corpora(2), Store(tmp_path)
    store.build(cells[0].address, {"domain": "d0"}, {}, lambda folder: {})
    (store.folder(cells[0].address) / "record.json").write_text("{")
    assert TimeLeft(cells, {}, store, 1).without("corpus/d0") == 3.0
