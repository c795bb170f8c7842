import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import polars as pl
import pytest
from page_data import data_set, plain, read_payload

from mmgrid.reporting import write_report
from mmgrid.reporting.page.html import chart_library, report_html, script_json

FRAMES = ("cells", "statistics", "results", "losses", "changes")


class Rows(HTMLParser):
    """The body rows of one table of the report, as (group, [(text before the interval, data-value)])."""

    def __init__(self, table):
        super().__init__()
        self.table, self.inside, self.rows, self.cell = table, False, [], None

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "figure":
            self.inside = values.get("id") == self.table
        elif self.inside and tag == "tr":
            self.rows.append((values.get("data-of", ""), []))
        elif self.inside and tag in ("td", "th") and values.get("scope") != "col":
            self.cell = ["", values.get("data-value")]
            self.rows[-1][1].append(self.cell)
        elif tag == "span":
            self.cell = None

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        if self.inside and self.cell is not None:
            self.cell[0] += data


def read_rows(text, table):
    parser = Rows(table)
    parser.feed(text)
    return [row for row in parser.rows if row[1]]


def test_writes_one_whole_file(tables, tmp_path):
    path = write_report(tables, tmp_path / "new folder" / "report.html")
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_shows_the_results_to_the_last_digit(tables, page_text):
    shown = {
        (group, cells[0][0], cells[1][0], cells[2][0]): float(cells[5][1])
        for group, cells in read_rows(page_text, "table-2")
    }
    trained = {"pretrain": "to t0", "phase1": "to t1", "phase2": "to t2", "all": "to t2, in one go"}
    expected = {}
    single = tables.results.filter((pl.col("merge") == "") & (pl.col("metric") == "ndcg@10"))
    for row in single.iter_rows(named=True):
        baseline = row["paradigm"] == "baseline"
        name = row["model"] if baseline else row["paradigm"]
        key = (row["group"], row["domain"], name, "" if baseline else trained[row["model"]])
        expected[key] = row["value"]
    assert shown == expected


def test_holds_aggregates_only_and_the_chart_library_once(tables, page_text):
    assert page_text.count("window.vegaEmbed = vegaEmbed") + page_text.count("window.vegaEmbed=") == 1
    assert len(page_text.encode()) - len(chart_library().encode()) < 500_000
    payload = read_payload(page_text)
    assert all("values" not in json.dumps(figure["spec"].get("data")) for figure in payload["figures"])
    assert data_set(payload, "losses").height < tables.losses.height


def test_a_grid_of_six_domains_stays_under_five_megabytes(tables):
    def six(frame):
        columns = [column for column in ("domain", "sources", "name", "model") if column in frame.columns]
        more = frame.with_columns(pl.col(columns).str.replace_all("(beauty|health|toys)", "more_$1"))
        return pl.concat([frame, more])

    frames = {name: six(getattr(tables, name)) for name in FRAMES}
    text = report_html(replace(tables, **frames))
    assert len(text.encode()) - len(chart_library().encode()) < 5_000_000


def test_loads_nothing_and_names_its_scripts(page_text):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page_text)[1]
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe-eval" not in policy
    assert policy.count("sha256-") == 2
    without_library = page_text.replace(chart_library(), "")
    assert re.findall(r'(?:src|href)="(?!#|data:,)[^"]*"', without_library) == []
    assert "@import" not in without_library
    assert "url(" not in without_library


def test_every_table_has_headings_and_a_caption(page_text):
    text = page_text.replace(chart_library(), "")
    assert text.count("<table") == text.count("<caption>") == 6
    assert '<th scope="col"' in text
    assert '<th scope="row"' in text


def test_json_cannot_leave_its_element():
    value = {"</script><!--": "\u2028&<script>"}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError):
        script_json(float("nan"))


def test_one_domain_without_merges_or_losses(tables):
    def only(frame):
        return frame.filter(pl.col("domain") == "beauty") if "domain" in frame.columns else frame

    frames = {name: only(getattr(tables, name)) for name in FRAMES}
    frames["results"] = frames["results"].filter(pl.col("merge") == "")
    text = report_html(replace(tables, **(frames | {"losses": pl.DataFrame(), "changes": pl.DataFrame()})))
    assert "No merge of two domains is evaluated" in text
    assert "No training has logged a loss yet." in text
    assert [row[1][0][0] for row in read_rows(text, "table-1")] == ["beauty"]
    assert [figure["id"] for figure in read_payload(text)["figures"]] == ["figure-lead", "figure-scores"]


def test_a_group_without_users_shows_dashes(tables):
    empty = pl.col("group") == "non_active"
    results = tables.results.with_columns(
        pl.when(empty).then(float("nan")).otherwise(pl.col(name)).alias(name) for name in ("value", "low", "high")
    ).with_columns(n_users=pl.when(empty).then(0).otherwise("n_users"))
    text = report_html(replace(tables, results=results, changes=pl.DataFrame()))
    rows = [cells for group, cells in read_rows(text, "table-2") if group == "non_active"]
    assert {cell[0] for row in rows for cell in row[3:7]} == {"–"}
    assert "Nothing is evaluated on non-active users yet." in plain(text)


def test_a_table_that_lacks_a_column_is_named(tables):
    with pytest.raises(ValueError, match="'losses': no column loss"):
        report_html(replace(tables, losses=tables.losses.drop("loss")))
    with pytest.raises(ValueError, match="'cells'"):
        report_html(replace(tables, cells=tables.cells.with_columns(seconds=pl.lit("soon"))))


def test_the_page_follows_from_the_tables_alone(tables):
    assert report_html(tables) == report_html(tables)


def test_the_report_does_without_torch():
    program = "import sys, mmgrid.reporting; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
