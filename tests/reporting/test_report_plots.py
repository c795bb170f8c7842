"""Every declared plot becomes a figure that draws the rows of its declaration."""

import functools
import json
import re
from dataclasses import replace

import polars as pl
import pytest
import vl_convert
from made_studies import made_studies
from page_data import data_set, figure, read_payload

from mmgrid.reporting import write_figures
from mmgrid.reporting.figures.figure import METRIC_MARK, vegalite_version
from mmgrid.reporting.figures.plot_data import data_set as thinned
from mmgrid.reporting.figures.plots import plot_figure
from mmgrid.reporting.page.figure_files import sized_spec
from mmgrid.reporting.page.study_sections import study_figures
from mmgrid.reporting.studies.registry import view
from mmgrid.reporting.tables.order import STUDY_METRICS, listing_orders
from mmgrid.reporting.tables.table import Table
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.registry import STUDIES
from mmgrid.studies.statistics.curve import best_place

DOMAINS = ("toys", "beauty", "health")
PLOTS = [(study.name, plot.name) for study in STUDIES.values() for plot in study.plots]
POINTS = Plot("p", "t", "point", Axis("x", "x"), Axis("y", "y"), Axis("domain", "domain"), caption="")


studies = functools.cache(made_studies)


def drawing(study, name, **made):
    plot = next(plot for plot in STUDIES[study].plots if plot.name == name)
    schemas = STUDIES[study].tables
    found = studies(DOMAINS, **made)[study]
    own = view(study)
    frames = {table: own.plot_rows(table, found.get(table, schemas[table].to_frame())) for table in [plot.table]}
    frames |= {table: frame for table, frame in found.items() if table != plot.table}
    data = thinned(plot.table, STUDIES[study].plots, frames)
    return plot_figure(plot, "data", data, listing_orders(DOMAINS) | own.orders, figure_id="figure-x")


def fields(spec):
    """Every column that an encoding or a filter names."""
    text = json.dumps(spec)
    return set(re.findall(r'"field": "([^"]+)"', text)) | set(re.findall(r"datum\[\\\"([^\\]+)\\\"\]", text))


@pytest.mark.parametrize(("study", "name"), PLOTS)
def test_every_declared_plot_is_drawn_from_columns_of_its_data_set(study, name):
    found = drawing(study, name, paradigms=("semb", "text"), seeds=(0, 1))
    data = found.data["data"]
    assert fields(found.spec) - {"rows"} <= set(data.columns)
    assert {"paradigm", "seed"} <= {control.name for control in found.controls}
    # Vega-Lite compiles it: an invalid specification raises.
    assert vl_convert.vegalite_to_vega(sized_spec(found), vl_version=vegalite_version())["marks"]


@pytest.mark.parametrize(("study", "name"), PLOTS)
def test_a_study_without_rows_has_no_figure(study, name):
    plot = next(plot for plot in STUDIES[study].plots if plot.name == name)
    empty = {table: schema.to_frame() for table, schema in STUDIES[study].tables.items()}
    data = thinned(plot.table, STUDIES[study].plots, empty)
    assert plot_figure(plot, "data", data, listing_orders(), figure_id="figure-x") is None


def test_a_line_of_one_place_is_seen():
    """Such as what sets of two domains keep, where a grid merges pairs only."""
    plot = Plot(
        "p", "t", "line", Axis("x", "x"), Axis("y", "y"), Axis("domain", "domain"), caption="", low="low", high="high"
    )
    rows = {"domain": ["a", "b", "b"], "x": [2, 2, 3], "y": [1.0, 2.0, 3.0], "low": [0.0] * 3, "high": [4.0] * 3}
    for last, seen in ((slice(1, None), False), (slice(None), True)):
        frame = pl.DataFrame(rows)[last]
        marks = [layer["mark"] for layer in plot_figure(plot, "data", frame, {}, figure_id="f").spec["layer"]]
        assert any(mark["type"] == "line" and mark["point"] is True for mark in marks) is seen
        assert any(mark["type"] == "rule" for mark in marks) is seen


def test_paradigms_are_listed_in_their_order_and_the_newest_phase_first():
    found = drawing("vectors", "cosines", paradigms=("semb", "text"))
    options = {control.name: [value for value, _ in control.options] for control in found.controls}
    assert options == {"phase": ["phase2", "phase1", "pretrain"], "paradigm": ["text", "semb"], "seed": ["0"]}
    first = {parameter["name"]: parameter["value"] for parameter in found.spec["params"]}
    assert (first["phase"], first["paradigm"]) == ("phase2", "text")


def test_the_group_follows_the_page_unless_it_is_the_colour():
    heat, curves = drawing("cross_domain", "changes"), drawing("temporal", "curves")
    assert {"name": "group", "value": "all"} in heat.spec["params"]
    assert "group" not in [control.name for control in heat.controls]
    assert "group" not in [parameter["name"] for parameter in curves.spec["params"]]
    assert "non-active users" in json.dumps(curves.spec)


def test_data_is_thinned_to_four_metrics_and_five_digits():
    data = drawing("temporal", "curves").data["data"]
    assert set(data["metric"]) == set(STUDY_METRICS)
    assert set(data["group"]) == {"all", "active", "non_active"}
    assert data["value"].to_list() == data["value"].round_sig_figs(5).to_list()


def test_each_line_has_its_dashed_rule_once():
    data = drawing("temporal", "curves").data["data"]
    best = studies(DOMAINS)["temporal"]["best"]
    rules = data.drop_nulls("_rule curves")
    assert set(rules["metric"]) == {"ndcg@20"}
    expected = {(row["domain"], row["group"]): row["best"] for row in best.iter_rows(named=True)}
    found = {(row["domain"], row["group"]): row["_rule curves"] for row in rules.iter_rows(named=True)}
    assert rules.height == len(expected)
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_dot_stands_on_the_maximum_of_the_drawn_curve():
    """λ* is the maximum of the smoothed curve, not of the measured points, and its interval is drawn."""
    made = studies(DOMAINS)["temporal"]
    curves = made["curve"].filter(domain="beauty", group="all", metric="ndcg@20", seed=0)
    best = best_place(curves["value"].to_numpy()[None], curves["scale"].to_numpy(), seed=0).place
    marked = made["best"].with_columns(best=pl.lit(best), best_low=pl.lit(best - 0.1), best_high=pl.lit(best + 0.1))
    frames = {**made, "curve": curves, "best": marked}
    study = STUDIES["temporal"]
    (figure,) = study_figures(study, view("temporal"), frames, DOMAINS)
    data = figure.data["temporal/curve"]
    (dot,) = data.drop_nulls("_rule curves").iter_rows(named=True)
    assert dot["scale"] == pytest.approx(best)
    assert dot["smooth"] == data["smooth"].max()
    assert (dot["_rule low curves"], dot["_rule high curves"]) == pytest.approx((best - 0.1, best + 0.1))
    assert data["value"].drop_nulls().len() == curves.height  # the places between have no measured value
    assert data.height > curves.height


def test_axes_name_the_metric_that_is_shown():
    curves = drawing("temporal", "curves")
    assert METRIC_MARK in json.dumps(curves.spec, ensure_ascii=False)
    assert curves.metrics["recall@10"] == "Recall@10"
    assert '"NDCG@20, %"' in json.dumps(curves.first_spec)
    one = plot_figure(
        STUDIES["temporal"].plots[0],
        "data",
        curves.data["data"].filter(pl.col("metric") == "ndcg@10"),
        {},
        figure_id="x",
    )
    assert one is not None
    assert one.metrics == {}
    assert '"NDCG@10, %"' in json.dumps(one.spec)


@pytest.mark.parametrize(("domains", "said"), [(DOMAINS, True), ("abcd", False)])
def test_a_line_through_two_or_three_domains_is_no_evidence(domains, said):
    made = studies(tuple(domains))
    (recency,) = study_figures(STUDIES["recency"], view("recency"), made["recency"], domains)
    assert ("A line through 3 domains is no evidence of a trend." in recency.caption) is said
    fitted = [*view("advise").tables(made["advise"]), *view("advise").paragraphs(made["advise"])]
    words = " ".join(part.caption if isinstance(part, Table) else part.text for part in fitted)
    assert words.count(f"A line through {len(domains) - 1} domains is no evidence") == 2


def test_each_panel_has_its_crossing_lines_once():
    data = drawing("base_model", "joint").data["data"]
    assert data.drop_nulls("_cross x joint").height == 3 * len(STUDY_METRICS)  # pairs and metrics
    assert set(data["base"]) == {"backbone", "historical, first", "historical, second", "neutral"}
    assert set(data["pair"]) == {"beauty + health", "beauty + toys", "health + toys"}


def test_only_the_parts_that_a_figure_keeps_are_plot_figure():
    found = drawing("vectors", "norms")
    (control,) = [control for control in found.controls if control.name == "part"]
    assert [value for value, _ in control.options] == ["whole", "tower"]
    assert set(drawing("vectors", "cosines").data["data"]["part"]) == {"whole"}


def test_missing_intervals_leave_their_points():
    frame = pl.DataFrame({"domain": ["a"], "x": [1.0], "y": [2.0], "low": [None]}, schema_overrides={"low": pl.Float64})
    plot = replace(POINTS, low="low", high="low")
    assert plot_figure(plot, "t", frame, {}, figure_id="f").data["t"].height == 1


def test_names_from_outside_are_strings_of_the_expression():
    hostile = """') || alert(1) || ('"\\"""
    frame = pl.DataFrame({"domain": [hostile], "x": [1.0], "y": [2.0]})
    found = plot_figure(replace(POINTS, keep={"domain": (hostile,)}), "t", frame, {}, figure_id="f")
    (condition,) = [step["filter"] for step in found.spec["transform"]]
    assert json.dumps(hostile) in condition
    svg = vl_convert.vegalite_to_svg(sized_spec(found), vl_version=vegalite_version())
    assert svg.count("symbol") > 0


def test_long_names_of_pairs_take_two_lines():
    long = {"a" * 20: 1, "b" * 20: 2}
    frame = pl.DataFrame({"pair": [" + ".join(long)], "domain": ["a"], "x": [1.0], "y": [1.0]})
    text = json.dumps(plot_figure(replace(POINTS, panel="pair"), "t", frame, {}, figure_id="f").spec)
    assert "split(" in text
    short = frame.with_columns(pair=pl.lit("a + b"))
    assert "split(" not in json.dumps(plot_figure(replace(POINTS, panel="pair"), "t", short, {}, figure_id="f").spec)


def test_writes_every_figure_as_svg_and_pdf(studied, tmp_path):
    small = replace(studied, studies={name: studied.studies[name] for name in ("recency", "cross_domain")})
    paths = write_figures(small, tmp_path / "figures")
    names = ["lead", "scores", "cross-domain-changes", "cross-domain-sizes", "recency-recency", "months", "losses"]
    assert [path.name for path in paths] == [f"figure-{name}.{kind}" for name in names for kind in ("svg", "pdf")]
    assert sorted(entry.name for entry in (tmp_path / "figures").iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(b"%PDF" if path.suffix == ".pdf" else b"<svg")
    changes = (tmp_path / "figures" / "figure-cross-domain-changes.svg").read_text()
    assert "Infinity" not in changes
    made = studied.studies["cross_domain"]["merges"]
    first = made.filter((pl.col("metric") == "ndcg@20") & (pl.col("group") == "all") & (pl.col("paradigm") == "semb"))
    assert all(f"{abs(change):.1f}" in changes for change in first["change"])


def test_figures_of_one_table_share_its_data_set(studied_page):
    payload = read_payload(studied_page)
    assert data_set(payload, "vectors/norms").height > 0
    norms, layers = (figure(payload, f"figure-vectors-{name}") for name in ("norms", "layers"))
    assert norms["data"] == layers["data"] == ["vectors/norms"]


def test_a_line_over_layers_leaves_out_weights_outside_them():
    assert "outside" in set(studies(DOMAINS)["vectors"]["norms"]["layer"])
    assert set(drawing("vectors", "layers").data["data"]["layer"]) == {"", "0", "1", "2", "3", "4", "5"}
