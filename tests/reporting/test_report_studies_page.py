"""The studies in the page: their sections, order, sources and commands, and the size of the page."""

import re
from dataclasses import replace

import polars as pl
from made_studies import made_months, made_studies
from page_data import data_set, plain, read_payload

from mmgrid.reporting.page.html import chart_library, report_html
from mmgrid.studies.registry import STUDIES

SIX = ("video", "movies", "phones", "sports", "books", "health")


def sections(text):
    return re.findall(r'<section id="([^"]+)"', text)


def test_sections_come_in_the_order_of_the_registry(studied_page):
    studies = [name.replace("_", "-") for name in STUDIES]
    assert sections(studied_page) == ["findings", "quality", *studies, "data", "training", "grid", "glossary", "about"]


def test_only_the_studies_of_the_grid_are_shown(studied, page_text):
    text = report_html(replace(studied, studies={"recency": studied.studies["recency"]}))
    assert sections(text) == [
        "findings",
        "quality",
        "merging",
        "recency",
        "data",
        "training",
        "grid",
        "glossary",
        "about",
    ]
    assert sections(page_text) == ["quality", "merging", "data", "training", "grid", "glossary", "about"]


def test_a_study_that_has_no_rows_yet_says_so(studied):
    text = report_html(replace(studied, studies={name: {} for name in STUDIES}))
    assert sections(text)[1] == "merging"  # without rows of the study, the grid's own merges stay
    assert "findings" not in sections(text)
    for sentence in (
        "No paradigm is compared with a reference yet.",
        "No task vector is measured yet.",
        "No merge of two domains is evaluated yet.",
        "No merge with another base is evaluated yet.",
        "No curve over λ is evaluated yet.",
        "The best λ of non-active users is not known for any domain yet.",
        "No λ is predicted yet",
    ):
        assert sentence in plain(text)


def test_each_study_names_its_source_and_its_command(studied, studied_page):
    for study in STUDIES.values():
        assert f"{study.source} of the paper" in studied_page
        assert f"mmgrid run grids/three-domains.toml --only &#39;study/{study.name}/*&#39;" in studied_page
    few = replace(studied, studies={"recency": studied.studies["recency"]})
    assert "Computed by" not in report_html(replace(few, grid=""))
    assert "&#39;my grid.toml&#39; --only" in report_html(replace(few, grid="my grid.toml"))


def test_figures_are_numbered_in_their_order(studied_page, page_text):
    numbers = re.findall(r"<strong>Figure (\d+)\.</strong>", studied_page)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert re.findall(r"<strong>Figure (\d+)\.</strong>", page_text) == ["1", "2", "3", "4"]


def test_long_tables_are_folded_away(studied_page):
    text = studied_page.replace(chart_library(), "")
    folded = re.findall(r"<details>\s*<summary>([^<]+)</summary>", text)
    assert "Changes" not in folded  # 2 ways, 2 paradigms, 3 pairs, both sides: 24 rows
    assert "Norms" in folded
    assert text.count("<table") == text.count("<caption>")


def test_one_domain_alone(studied):
    def only(frame):
        return frame.filter(pl.col("domain") == "beauty") if "domain" in frame.columns else frame

    names = ("cells", "statistics", "results", "losses", "changes", "months")
    text = report_html(
        replace(studied, **{name: only(getattr(studied, name)) for name in names}, studies=made_studies(("beauty",)))
    )
    assert "one domain shows no trend" in text
    assert "No λ is predicted yet: a line needs the λ* of other domains." in plain(text)
    assert "No merge of two domains is evaluated" in text
    figures = {figure["id"] for figure in read_payload(text)["figures"]}
    assert {"figure-temporal-curves", "figure-recency-recency", "figure-vectors-norms"} <= figures
    assert not {"figure-cross-domain-changes", "figure-base-model-joint", "figure-advise-gains"} & figures


def test_interactions_over_time_come_with_the_phases(studied, tables, studied_page):
    payload = read_payload(studied_page)
    assert data_set(payload, "months")["interactions"].to_list() == studied.months["interactions"].to_list()
    spans = data_set(payload, "phases")
    assert spans.row(1) == ("phase1", "2022-07-01T00:00", "2022-10-01T00:00")
    without = read_payload(report_html(replace(tables, months=studied.months)))
    assert "phases" not in without["data"]
    assert "figure-months" in [figure["id"] for figure in without["figures"]]


def test_months_may_be_texts(studied, tables):
    months = studied.months.with_columns(pl.col("month").dt.to_string("iso"))
    assert (
        data_set(read_payload(report_html(replace(tables, months=months))), "months")["month"][0] == "2017-07-01T00:00"
    )


def test_hostile_names_of_studies_stay_text(studied):
    hostile = "</script><img src=x onerror=alert(2)>"
    text = report_html(replace(studied, studies=made_studies(("beauty", hostile, "toys")), grid=f"{hostile}.toml"))
    assert hostile not in text
    assert hostile.replace("<", "\\u003c").replace(">", "\\u003e") in text


def test_six_domains_with_everything_stay_under_five_megabytes(studied):
    studies = made_studies(SIX, ("text", "semid", "semb"), scales=26)
    text = report_html(replace(studied, months=made_months(SIX), studies=studies))
    assert studies["temporal"]["curve"].height == 3 * 26 * 3 * 7 * 6
    assert studies["base_model"]["curve"].height == 3 * 15 * 4 * 11 * 7
    assert len(text.encode()) - len(chart_library().encode()) < 4_000_000


def test_the_page_follows_from_the_tables_alone(studied, studied_page):
    assert report_html(studied) == studied_page
