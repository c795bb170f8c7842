"""Tables and lines in terminals of any width: no number, id or word is ever broken."""

import io
from collections.abc import Sequence

import polars as pl
import pytest
from rich.console import Console

from mmgrid.cli import draw
from mmgrid.cli.numbers import Interval, column_texts, on_the_point
from mmgrid.cli.study_views import print_study_table

NAMES = ("garden", "kitchen", "historical:games", "linear=0.7-beauty+0.3-toys", "a title of several words, quite long")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(draw, "console", Console(file=out, width=80))
    return out


def _printed(terminal: io.StringIO, width: int, columns: list[str], rows: Sequence[Sequence[object]], left: int) -> str:
    draw.console.width = width
    draw.print_table("", columns, rows, left=left)
    text = terminal.getvalue()
    terminal.truncate(0)
    terminal.seek(0)
    return text


@pytest.mark.parametrize("width", [40, 60, 80, 120, draw.UNLIMITED])
@pytest.mark.parametrize("n_numbers", [1, 4, 13])
@pytest.mark.parametrize("n_rows", [1, 3, 20])
@pytest.mark.parametrize("left", [0, 1, 2, 5])
def test_every_word_of_a_table_stays_whole(
    width: int, n_numbers: int, n_rows: int, left: int, terminal: io.StringIO
) -> None:
    columns = [f"text_{n}" for n in range(left)] + [f"some_number_{n}" for n in range(n_numbers)]
    rows = [
        tuple(NAMES[(row // 4 + n) % len(NAMES)] for n in range(left))
        + tuple(12_345.678 * (row + n + 1) for n in range(n_numbers))
        for row in range(n_rows)
    ]
    text = _printed(terminal, width, columns, rows, left)
    words = set(text.split())
    assert {word for row in rows for part in row[:left] for word in str(part).split()} <= words
    for place in range(left, len(columns)):
        assert set(column_texts([row[place] for row in rows])) <= words
    assert all(len(line.rstrip()) <= width or " " not in line.strip() for line in text.splitlines())
    for column in columns[left:]:
        assert set(column.split("_")) <= {part for word in words for part in word.split("_")}


def test_a_table_that_is_too_wide_is_turned_or_parted(terminal: io.StringIO) -> None:
    numbers = [f"number_{n}" for n in range(9)]
    few = [("garden", *range(9)), ("kitchen", *range(9))]
    turned = _printed(terminal, 40, ["domain", *numbers], few, 1).splitlines()
    assert turned[0].split() == ["domain", "garden", "kitchen"]
    assert [line.split()[0] for line in turned[1:]] == numbers
    many = [(domain, f"m{n}", n, 5) for domain in ("games", "garden") for n in range(6)]
    parts = _printed(terminal, 22, ["domain", "model", "value", "users"], many, 2)
    assert parts.startswith("games\n  users 5\nmodel  value\n")
    assert parts.count("users 5") == 2
    one = _printed(terminal, 20, ["domain", "value", "users"], [("d" * 30, 1.5, 7)] * 9, 1)
    assert one.startswith(f"{'d' * 30}\n  value 1.5  users 7\n")


def test_a_sentence_is_wrapped_between_words(terminal: io.StringIO) -> None:
    rows = [("density", "the share of each task vector that is kept, by size", "number")]
    lines = _printed(terminal, 50, ["option", "about", "type"], rows, 3).splitlines()
    assert len(lines) > 2
    assert " ".join(" ".join(line[9:].removesuffix("number").split()) for line in lines[1:]) == rows[0][1]


def test_lines_are_wrapped_between_words_and_pipes_get_them_whole(terminal: io.StringIO) -> None:
    path = "/a/very/long/path/" + "x" * 60
    draw.console.width = 40
    draw.say("  written to ", path, " in no time at all, as it must be", hang=4)
    lines = terminal.getvalue().splitlines()
    assert path in [line.strip() for line in lines]
    assert all(len(line) <= 40 for line in lines if path not in line)
    terminal.truncate(0)
    terminal.seek(0)
    draw.console.width = draw.UNLIMITED
    draw.say("word " * 400, path)
    assert terminal.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.00014321, 0.25], ["1.4e-4", "0.25"]),
        ([1.4e-4], ["1.4e-4"]),
        ([12.234, 9.8134, None, float("nan")], ["12.23", "9.81", "–", "–"]),
        ([17_707.275, 4.2], ["17,707", "4.2"]),
        ([0.948, 0.936], ["0.948", "0.936"]),
        ([0.332, 0.0021, 3e-16, 0.0], ["0.332", "0.0021", "3.0e-16", "0.000"]),
        ([0.0, 0.25, -0.5, 1.0], ["0.00", "0.25", "-0.50", "1.00"]),
        ([338.0, 2.0], ["338", "2"]),
        ([1234, "phase2", True], ["1,234", "phase2", "yes"]),
        ([Interval(12.234, 9.8, 14.9), Interval(1.0, None, None)], ["12.23 [9.80, 14.90]", "1.00"]),
        ([float("inf"), -1e-9, 2.5e20], ["–", "-1.0e-9", "2.500e+20"]),
    ],
)
def test_numbers_keep_the_digits_that_matter(values: list[object], texts: list[str]) -> None:
    assert column_texts(values) == texts


def test_what_is_not_zero_is_not_shown_as_zero() -> None:
    for exponent in range(-300, 300, 7):
        for value in (1.7 * 10.0**exponent, -9.96 * 10.0**exponent):
            for text in (column_texts(column)[0] for column in ([value], [value, 1e3], [value, 0.5])):
                assert float(text.replace(",", "")) == pytest.approx(value, rel=0.06)


def test_decimal_points_stand_in_one_line() -> None:
    assert on_the_point(["1.25", "0.0021", "7", "1.4e-4", "–"]) == ["1.25  ", "0.0021", "7     ", "1.4e-4", "–"]


def test_a_study_says_once_what_all_rows_share(terminal: io.StringIO) -> None:
    frame = pl.DataFrame(
        {
            "paradigm": ["semb", "semb"],
            "metric": ["ndcg@20", "ndcg@20"],
            "domain": ["garden", "games"],
            "seed": [0, 0],
            "merge": ["", ""],
            "best": [0.5, 0.75],
            "best_low": [0.25, 0.5],
            "best_high": [1.0, 1.25],
            "gain": [0.00014, 0.2],
        }
    )
    print_study_table("temporal: best", frame, frame.to_dicts())
    lines = [line.split() for line in terminal.getvalue().splitlines()]
    assert " ".join(lines[0]) == "temporal: best (paradigm semb, metric ndcg@20, seed 0)"
    assert lines[1:] == [
        ["domain", "best", "gain"],
        ["garden", "0.50", "[0.25,", "1.00]", "1.4e-4"],
        ["games", "0.75", "[0.50,", "1.25]", "0.2"],
    ]
