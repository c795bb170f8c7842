"""The first screen: the strongest paradigm, what is best where, what is open, and the figure that matters most."""

from dataclasses import replace

import polars as pl
from page_data import figure, read_payload

from mmgrid.evaluation import RESULTS_SCHEMA
from mmgrid.reporting.inputs import checked
from mmgrid.reporting.page.html import report_html
from mmgrid.reporting.page.page import report_page
from mmgrid.reporting.tables.comparison import scores
from mmgrid.reporting.tables.strength import first_of, strongest_first
from mmgrid.reporting.text.headlines import best_headline, unfinished_headline


def results(*rows, metric="ndcg@20", group="all"):
    """(paradigm, domain, model, value, low, high) as rows of results."""
    usual = {"merge": "", "metric": metric, "group": group, "seed": 0, "n_users": 100}
    names = ("paradigm", "domain", "model", "value", "low", "high")
    values = [usual | dict(zip(names, row, strict=True)) for row in rows]
    return pl.DataFrame([{name: row.get(name) for name in RESULTS_SCHEMA} for row in values], schema=RESULTS_SCHEMA)


def at(paradigm, domain, value, model="phase2", width=0.5):
    return paradigm, domain, model, value, value - width, value + width


def test_the_strongest_paradigm_is_judged_on_shared_domains_and_by_its_newest_model():
    found = results(
        at("semb", "a", 5.0),
        at("semb", "b", 5.0),
        at("semb", "b", 50.0, "pretrain"),  # not its newest model
        at("text", "a", 6.0),
        at("sasrec", "a", 4.0),
        at("sasrec", "easy", 40.0),
        at("baseline", "a", 90.0, "popularity"),
    )
    assert strongest_first(found) == ["text", "semb", "sasrec"]
    assert first_of(["text", "semb"], ["sasrec", "semb"]) == "semb"
    assert (first_of([], ["semid"]), first_of(["text"], [])) == ("semid", "")


def test_overlapping_intervals_are_called_undecided():
    found = results(
        at("semb", "a", 5.0), at("text", "a", 3.0), at("semb", "b", 5.0), at("text", "b", 4.5), at("semb", "c", 2.0)
    )
    assert best_headline(scores(found, ["a", "b", "c"])).text == (
        "semb is best in a (NDCG@20 5.00 % [4.50, 5.50]). Undecided, since their intervals overlap: in b between semb "
        "(NDCG@20 5.00 % [4.50, 5.50]) and text (4.50 % [4.00, 5.00]). Without another model to compare with: semb in "
        "c (NDCG@20 2.00 % [1.50, 2.50])."
    )


def test_many_domains_are_counted():
    names = [f"d{place}" for place in range(6)]
    values = [at(paradigm, name, at_) for name in names for paradigm, at_ in (("semb", 5.0), ("text", 3.0))]
    assert best_headline(scores(results(*values), names)).text == (
        "semb is best in 6 of 6 domains, with NDCG@20 from 5.00 % [4.50, 5.50] (d0) to 5.00 % [4.50, 5.50] (d0)."
    )


def test_only_an_unfinished_grid_says_so(tables):
    headline = unfinished_headline(checked(tables).cells)
    assert headline is not None
    assert headline.text.startswith("42 of 48 cells are built, 2 failed, 2 blocked and 2 missing")
    assert unfinished_headline(checked(tables).cells.filter(pl.col("state") == "built")) is None


def test_it_has_three_to_five_statements_and_the_curves_over_time(studied):
    first = report_page(checked(studied)).first
    assert [headline.label for headline in first.headlines] == [
        "Best model",
        "A merge costs",
        "Across time",
        "Claims",
        "Unfinished",
    ]
    assert first.figure is not None
    assert (first.figure.id, first.figure.title) == ("figure-lead", "Figure 1")
    assert "Here: semb, all users" in first.figure.caption
    assert first.figure.controls == ()


def test_without_studies_the_grids_own_merges_speak(tables):
    first = report_page(checked(tables)).first
    assert [headline.label for headline in first.headlines] == ["Best model", "A merge costs", "Unfinished"]
    assert "merges are worse" in first.headlines[1].text
    assert first.figure is not None
    assert "models of two domains are merged" in first.figure.caption


def test_metadata_comes_last(studied_page, studied):
    assert studied_page.index('id="about"') > studied_page.index('id="grid"') > studied_page.index('id="quality"')
    assert studied_page.index('<dl class="facts">') > studied_page.index('id="about"')


def test_figures_open_on_the_strongest_paradigm(studied, studied_page):
    flipped = studied.results.with_columns(
        pl.when(pl.col("paradigm") == "sasrec").then(pl.col("value") + 90).otherwise("value").alias("value")
    )
    for text, strongest in ((studied_page, "semb"), (report_html(replace(studied, results=flipped)), "sasrec")):
        for name in ("temporal-curves", "cross-domain-changes", "baselines-comparisons", "losses"):
            spec = figure(read_payload(text), f"figure-{name}")["spec"]
            assert {"name": "paradigm", "value": strongest} in spec["params"], name
        assert text.count(f'<option value="{strongest}" selected>') >= 4
