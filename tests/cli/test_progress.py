"""What a run shows of itself while it goes on: bars in a terminal, lines elsewhere."""

import io
import threading
from dataclasses import dataclass

import pytest
from rich.console import Console

from mmgrid.cli import draw
from mmgrid.cli.progress import Progress
from mmgrid.runners import CellEvent


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _watch(clock: Clock, total: int = 3) -> Progress:
    return Progress(total, lambda now: 600.0 - now, clock=clock)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None, highlight=False)
    monkeypatch.setattr(draw, "console", console)
    return console


def _drawn(watch: Progress, terminal: Console) -> list[str]:
    with terminal.capture() as capture:
        terminal.print(watch.bars.get_renderable())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_terminal_has_one_bar_with_the_cells_in_work_below(terminal: Console, clock: Clock) -> None:
    watch = _watch(clock)
    watch(CellEvent("corpus/a", "started"))
    watch(CellEvent("corpus/a", "built", 2.0))
    watch(CellEvent("checkpoint/x", "started"))
    watch(CellEvent("evaluation/y", "started"))
    watch(CellEvent("checkpoint/x", "progress", 9.0, "", 40, 200, 2.5, rate=2.0))
    whole, first, second = _drawn(watch, terminal)
    assert "all cells" in whole
    assert "1/3" in whole
    assert whole.endswith("about 10 min 00 s left")
    assert "checkpoint/x" in first
    assert first.endswith("step 40/200  loss 2.500  1 min 20 s left")
    assert "evaluation/y" in second
    clock.now = 5.0  # nothing has happened, and the times go on
    whole, first, second = _drawn(watch, terminal)
    assert whole.endswith("about 9 min 55 s left")
    assert first.endswith("1 min 15 s left")
    assert second.endswith("5 s")
    watch(CellEvent("checkpoint/x", "waiting"))
    watch(CellEvent("evaluation/y", "failed", 3.0, "no items"))
    (whole,) = _drawn(watch, terminal)
    assert "2/3" in whole
    assert "failed  evaluation/y: no items" in terminal.file.getvalue()  # type: ignore[attr-defined]


def test_a_cell_that_is_built_again_counts_again(terminal: Console, clock: Clock) -> None:
    watch = _watch(clock, 1)
    watch(CellEvent("corpus/a", "present"))
    watch(CellEvent("corpus/a", "damaged", 0.0, "corpus/a is damaged"))
    (whole,) = _drawn(watch, terminal)
    assert "0/2" in whole


def test_elsewhere_lines_say_how_the_run_is(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    watch = _watch(clock)
    watch(CellEvent("corpus/a", "started"))
    watch(CellEvent("corpus/a", "failed", 1.0, "no items"))
    watch(CellEvent("checkpoint/x", "started"))
    clock.now = 60.0
    watch(CellEvent("checkpoint/x", "progress", 9.0, "", 40, 200, None))
    watch(CellEvent("evaluation/y", "started"))
    clock.now = 62.0
    assert watch.status_line() == (
        "1 of 3 cells, 1 failed; in work: checkpoint/x step 40/200, evaluation/y 2 s; about 8 min 58 s left"
    )
    assert capsys.readouterr().out == "1/3 failed  corpus/a: no items\n"


def test_elsewhere_a_line_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    twice = threading.Event()

    def say(part: tuple[str, str]) -> None:
        said.append(part[0])
        if len(said) == 2:
            twice.set()

    monkeypatch.setattr(draw, "say", say)
    with Progress(3, lambda _: None, beat_seconds=0.001):
        assert twice.wait(60)
    assert said[0].endswith(" 0 of 3 cells")


def test_files_are_shown_one_after_the_other_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "console", Console(force_terminal=True, file=io.StringIO()))
    with draw.Bytes("fetching") as shown:
        for name, done, total in (("a", 3, 10), ("a", 10, 10), ("b", 2, 7)):
            shown.of_file(name, done, total)
            assert shown.bar is not None
            (task,) = shown.bar.tasks
            assert (task.description, task.completed, task.total) == (name, done, total)
