"""The cells that a failure blocks, in a terminal of 80 columns."""

import io

import pytest
from rich.console import Console

from mmgrid.cli import draw
from mmgrid.cli.blocked import MOST_LINES, say_blocked


@pytest.mark.parametrize("n_cells", [1, 2, MOST_LINES, MOST_LINES + 1, MOST_LINES + 2, 2000])
def test_each_cell_has_a_line_and_many_are_counted(n_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(draw, "console", Console(file=out, width=80))
    names = [f"evaluation/semb/a_long_name_of_a_domain/model-{number}" for number in range(n_cells)]
    say_blocked("corpus/a_long_name_of_a_domain", names)
    first, *lines = out.getvalue().splitlines()
    assert first == f"blocked by corpus/a_long_name_of_a_domain: {n_cells:,} {'cell' if n_cells == 1 else 'cells'}"
    assert len(lines) <= MOST_LINES + 1
    assert all(len(line) <= 80 for line in lines)
    told = [line.strip() for line in lines if line.strip() in names]
    assert told == names[: len(told)]
    if n_cells > len(told):
        assert lines[-1] == f"  and {n_cells - len(told):,} more; `mmgrid plan GRID` shows all"
