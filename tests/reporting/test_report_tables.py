import io

import polars as pl
import pytest

from mmgrid.reporting.figures.losses import losses_figure
from mmgrid.reporting.tables.comparison import comparison_table, scores
from mmgrid.reporting.tables.export import to_csv, to_latex
from mmgrid.reporting.tables.losses import ends, thinned
from mmgrid.reporting.tables.numbers import count, listing, number, p_value, three_digits
from mmgrid.reporting.tables.table import Column, Table, element_id

SMALL = Table(
    "table-small",
    "Small",
    "Shares of 5 % & more.",
    (Column("name", "Name_1"), Column("value", "Value", digits=1, low="low", high="high", best=True)),
    pl.DataFrame(
        {
            "block": ["x", "x", "y", "y", "y"],
            "name": ["a&b", "c_d", "=SUM(A1)", "e", "f"],
            "value": [1.25, -2.0, 7.0, None, 9.0],
            "low": [1.0, -3.0, 6.0, None, 8.0],
            "high": [1.5, -1.0, 8.0, None, 9.5],
            "minor": [False, False, False, False, True],
            "group": ["all"] * 5,
        }
    ),
    block="block",
)


def test_csv_keeps_every_digit_and_row():
    csv = to_csv(SMALL)
    read = pl.read_csv(io.StringIO(csv))
    assert read.columns == ["group", "name", "value", "low", "high"]
    assert read["value"].to_list() == [1.25, -2.0, 7.0, None, 9.0]
    assert read["name"].to_list()[2] == "'=SUM(A1)"


def test_csv_reads_back_the_results(tables):
    table = comparison_table(scores(tables.results, []))
    read = pl.read_csv(io.StringIO(to_csv(table)))
    assert read["ndcg@20"].to_list() == table.frame["ndcg@20"].to_list()


def test_latex_escapes_rounds_and_sets_the_best_in_bold():
    latex = to_latex(SMALL, "all")
    assert r"\caption{Shares of 5 \% \& more. Users: all.}" in latex
    assert r"Name\_1 & Value \\" in latex
    assert r"a\&b & \textbf{1.2} {\scriptsize [1.0, 1.5]} \\" in latex
    assert r"c\_d & $-$2.0" in latex
    assert r"e & -- \\" in latex
    assert "9.0" not in latex  # shown on demand only
    assert "9.0" in to_latex(SMALL, "all", minor=True)
    assert latex.count(r"\midrule") == 2


def test_only_rows_always_shown_compete_for_the_best():
    best = {row.cells[0].text: row.cells[1].bold for row in SMALL.rows()}
    assert best == {"a&b": True, "c_d": False, "=SUM(A1)": True, "e": False, "f": False}
    assert [row.starts_block for row in SMALL.rows()] == [True, False, True, False, False]


def test_the_order_of_the_comparison(tables):
    frame = comparison_table(scores(tables.results, ["toys", "beauty", "health"])).select("all", minor=False)
    assert frame["domain"].unique(maintain_order=True).to_list() == ["toys", "beauty", "health"]
    beauty = frame.filter(pl.col("domain") == "beauty")["label"].to_list()
    assert beauty == ["semb", "sasrec", "sasrec (in one go)", "popularity", "random"]


def test_earlier_phases_are_shown_where_nothing_later_exists(tables):
    early = tables.results.filter(pl.col("model").is_in(["pretrain", "phase1"]))
    table = comparison_table(scores(early, []))
    assert not table.has_minor
    assert table.select("all", minor=False).height > 0


def test_several_seeds_stay_apart(tables):
    again = tables.results.with_columns(seed=pl.lit(1, pl.Int64))
    table = comparison_table(scores(pl.concat([tables.results, again]), []))
    assert "Seed" in [column.label for column in table.columns]
    assert table.frame.height == 2 * comparison_table(scores(tables.results, [])).frame.height


def test_the_caption_names_a_sample_of_the_users(tables):
    assert "sample" not in comparison_table(scores(tables.results, [])).caption
    fewer = tables.results.with_columns(
        n_users=pl.when(pl.col("paradigm") == "semb").then(pl.lit(7, pl.Int64)).otherwise("n_users")
    )
    assert "a sample of the test users" in comparison_table(scores(fewer, [])).caption


def test_thinning_keeps_ends_order_and_means():
    losses = pl.DataFrame(
        {
            "paradigm": "semb",
            "domain": "toys",
            "phase": "pretrain",
            "seed": 0,
            "step": list(range(1000, 0, -1)),
            "epoch": [step / 500 for step in range(1000, 0, -1)],
            "loss": [float("nan") if step == 7 else 5 - step / 500 for step in range(1000, 0, -1)],
        }
    )
    thin = thinned(losses, points=50)
    assert thin.height == 50
    assert thin["epoch"].is_sorted()
    assert thin["loss"].is_sorted(descending=True)
    assert thin["loss"].mean() == pytest.approx(losses["loss"].drop_nans().mean(), rel=0.01)
    row = ends(losses).row(0, named=True)
    assert row["first"] > row["last"]
    assert row["diverged"]


def test_curves_of_several_seeds_stay_apart(tables):
    again = tables.losses.with_columns(seed=pl.lit(1))
    both = pl.concat([tables.losses, again.with_columns(pl.col("loss") + 1)])
    assert ends(both).filter(pl.col("seed") == 0).equals(ends(tables.losses))
    assert thinned(both).filter(pl.col("seed") == 0).equals(thinned(tables.losses))
    one, two = (losses_figure(thinned(losses), []) for losses in (tables.losses, both))
    assert "one line per domain, " in one.alternative
    assert "one line per domain and seed, " in two.alternative
    assert two.data["losses"]["seed"].unique().sort().to_list() == [0, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(-1234.56, 1), "−1,234.6"),
        (number(-0.001, 2, sign=True), "0.00"),
        (number(2.0, 1, sign=True), "+2.0"),
        (number(float("nan"), 1), "–"),
        (count(0, "cell"), "no cells"),
        (count(1, "cell"), "1 cell"),
        (listing(["a", "b", "c"]), "a, b and c"),
        (listing(list("abcdef")), "a, b, c and 3 more"),
        (listing([]), ""),
        (three_digits(0.01234), "0.0123"),
        (three_digits(123456.7), "123,457"),
        (three_digits(1.234e-5), "1.23 × 10⁻⁵"),
        (p_value(0.0004), "< 0.001"),
        (element_id("table", "my_study", "a b/c"), "table-my-study-a-b-c"),
    ],
)
def test_numbers_as_printed(text, expected):
    assert text == expected


def test_a_label_is_left_out_only_below_the_same_label():
    """With one pair of domains, all rows are of one block, and the label of a paradigm must not get lost."""
    bases = ("backbone", "neutral")
    frame = pl.DataFrame([(name, "a + b", base) for name in ("text", "semid") for base in bases], orient="row")
    frame.columns = ["paradigm", "pair", "base"]
    columns = tuple(Column(name, name) for name in frame.columns)
    rows = Table("table-bases", "Bases", "", columns, frame, block="pair").rows()
    assert [row.starts_block for row in rows] == [True, False, True, False]
    assert [row.cells[0].repeated for row in rows] == [False, True, False, True]
