"""The report in a real browser: it requests nothing, logs no error, and its controls work."""

from dataclasses import replace

import polars as pl
import pytest
from page_data import data_set, wait_until_drawn

pytestmark = pytest.mark.slow


def seen_rows(page, table):
    return page.locator(f"#{table} tbody tr:visible")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_and_draws_every_figure(looked_at, tables, scheme):
    page = looked_at(tables, scheme=scheme)
    assert page.title() == "three-domains · MMGRid report"
    for figure in ("figure-scores", "figure-merges", "figure-losses"):
        assert page.locator(f"#{figure} svg").count() == 1
    assert page.locator("#figure-losses svg path[stroke][d]").count() > 3


def test_a_narrow_page_does_not_scroll_sideways(looked_at, tables):
    page = looked_at(tables, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_group_of_users_changes_table_sentences_and_figures(opened, tables):
    page = opened(tables)
    before = page.locator("#figure-scores svg").inner_html()
    assert page.locator("#quality .finding:visible").count() == 1
    page.get_by_text("Non-active", exact=True).first.click()
    assert "over non-active users" in page.locator("#quality .finding:visible").inner_text()
    users = {row.inner_text().split()[-1] for row in seen_rows(page, "table-2").all()}
    expected = tables.results.filter(pl.col("group") == "non_active")["n_users"].unique()
    assert users == {f"{count:,}" for count in expected}
    page.wait_for_function("old => document.querySelector('#figure-scores svg').innerHTML !== old", arg=before)


def test_earlier_phases_are_shown_on_demand(opened, tables):
    page = opened(tables)
    short = seen_rows(page, "table-2").count()
    page.get_by_label("Earlier phases").check()
    assert seen_rows(page, "table-2").count() > short
    assert "to t0" in page.locator("#table-2 tbody").inner_text()
    page.get_by_label("Earlier phases").uncheck()
    assert seen_rows(page, "table-2").count() == short


def test_a_table_sorts_down_up_and_back(opened, tables):
    page = opened(tables)
    heading = page.locator("#table-2 thead").get_by_text("NDCG@10")

    def column():
        return [float(row.locator("td").nth(4).get_attribute("data-value")) for row in seen_rows(page, "table-2").all()]

    given = column()
    heading.click()
    assert column() == sorted(given, reverse=True)
    assert page.locator("#table-2 th[aria-sort]").get_attribute("aria-sort") == "descending"
    heading.click()
    assert column() == sorted(given)
    heading.click()
    assert column() == given
    assert page.locator("#table-2 th[aria-sort]").count() == 0


def test_the_metric_of_the_heatmap_can_be_chosen(opened, tables):
    page = opened(tables)
    texts = page.locator("#figure-merges svg").text_content()
    page.locator("#figure-merges select").select_option("recall@20")
    page.wait_for_function("old => document.querySelector('#figure-merges svg').textContent !== old", arg=texts)
    pairs = data_set(page.evaluate("JSON.parse(document.getElementById('payload').textContent)"), "pairs")
    chosen = pairs.filter((pl.col("metric") == "recall@20") & (pl.col("group") == "all"))
    expected = {f"{abs(change):.1f}" for change in chosen["change"]}
    shown = page.locator("#figure-merges svg").text_content()
    assert expected
    assert all(number in shown for number in expected)


def test_copies_the_shown_rows(opened, tables):
    page = opened(tables)
    page.evaluate("""() => {
        window.copied = [];
        const clipboard = {writeText: async (text) => window.copied.push(text)};
        Object.defineProperty(navigator, "clipboard", {value: clipboard});
    }""")
    page.get_by_text("Active", exact=True).first.click()
    page.get_by_label("Copy Table 2 as CSV").click()
    page.get_by_label("Copy Table 2 as LaTeX").click()
    page.locator("[data-copy-text=command]").click()
    page.wait_for_function("window.copied.length === 3")
    csv, latex, command = page.evaluate("window.copied")
    assert csv.startswith("group,domain,recommender,trained,recall@10,recall@10 low")
    assert "Users: active." in latex
    assert r"\toprule" in latex
    assert command == tables.command


def test_a_change_of_scheme_keeps_the_choices(opened, tables):
    page = opened(tables)
    page.locator("#figure-losses select").select_option("semb")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_label("Change between light and dark").click()
    wait_until_drawn(page, 2)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != background
    assert page.locator("#figure-losses select").input_value() == "semb"
    assert page.locator("#figure-losses svg").count() == 1


def test_a_figure_can_be_saved(looked_at, tables, tmp_path):
    page = looked_at(tables)
    with page.expect_download() as download:
        page.get_by_label("Save Figure 3 as SVG").click()
    download.value.save_as(tmp_path / "saved.svg")
    assert download.value.suggested_filename == "figure-merges.svg"
    assert (tmp_path / "saved.svg").read_text().startswith("<svg")


def test_hostile_names_stay_text(opened, tables):
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"

    def renamed(frame):
        columns = [c for c in ("domain", "sources", "name") if c in frame.columns]
        return frame.with_columns(pl.col(columns).str.replace_all("toys", hostile, literal=True))

    frames = ("cells", "statistics", "results", "losses", "changes")
    page = opened(
        replace(
            tables,
            name=hostile,
            command=f"mmgrid run '{hostile}'",
            facts={hostile: hostile},
            **{name: renamed(getattr(tables, name)) for name in frames},
        )
    )
    assert page.locator("h1").inner_text() == hostile
    assert page.locator("img").count() == 0
    assert hostile in page.locator("#table-1").inner_text()
    # Its merges are still recognised as pairs, for all the slashes in the name.
    assert hostile in page.locator("#table-merges").text_content()


def test_sections_without_rows_say_so(opened, tables):
    empty = dict.fromkeys(("cells", "statistics", "results", "losses", "changes"), pl.DataFrame())
    page = opened(replace(tables, facts={}, **empty))
    text = page.locator("main").inner_text()
    assert page.locator("h2").count() == 7
    for sentence in ("no cells", "No domain is prepared", "Nothing is evaluated", "No merge", "No training"):
        assert sentence in text
