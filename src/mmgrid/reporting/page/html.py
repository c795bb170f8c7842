"""Writes the report as one HTML file that opens without a network: text, style, chart library and data inside.

Names of domains, items and cells are untrusted. They are escaped in the text (Jinja's autoescape) and cannot end the
data block (every `<` in the JSON is escaped). As a second line of defence, a content security policy allows only the
two scripts of the file, by their digests, and forbids loading anything.
"""

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import vl_convert

from mmgrid.evaluation import GROUPS
from mmgrid.files import clear_disk_errors, write_bytes
from mmgrid.reporting.figures.figure import METRIC_MARK, vegalite_version
from mmgrid.reporting.figures.theme import INKS, theme
from mmgrid.reporting.inputs import ReportTables, checked
from mmgrid.reporting.page.page import Page, report_page
from mmgrid.reporting.tables.export import to_csv, to_latex
from mmgrid.reporting.tables.labels import group_label
from mmgrid.reporting.tables.table import Table, nan_to_null
from mmgrid.reporting.text.glossary import GLOSSARY, explained, explanation, meaning_html

_GROUP_LABELS = {group: group_label(group).removesuffix(" users").capitalize() for group in GROUPS}


def write_report(tables: ReportTables, out: Path) -> Path:
    """Write the report to `out`, replacing the whole file, and return that path.

    Raises:
        ValueError: if a table with rows lacks a column; the message names both.
    """
    text = report_html(tables)
    with clear_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, text.encode())
    return out


def report_html(tables: ReportTables) -> str:
    """The report as HTML.

    Raises:
        ValueError: as `write_report`.
    """
    page = report_page(checked(tables))
    template = _environment().get_template("report.html.j2")
    library = chart_library() if page.figures else ""
    behaviour = _asset("behaviour.js")
    groups = set().union(*(section.groups for section in page.sections))
    return template.render(
        name=tables.name,
        command=tables.command,
        facts=tables.facts,
        first=page.first,
        glossary=GLOSSARY,
        sections=page.sections,
        groups=[(group, _GROUP_LABELS[group]) for group in GROUPS if group in groups],
        style=_asset("style.css"),
        library=library,
        behaviour=behaviour,
        payload=script_json(payload(page)),
        policy=_policy([script for script in (library, behaviour) if script]),
    )


def payload(page: Page) -> dict[str, Any]:
    """The data for the page's script: the data sets, the figures, and every table as CSV and LaTeX."""
    figures = page.figures
    tables = [table for section in page.sections for table in (*section.tables, *section.details)]
    return {
        "data": {name: _columns(frame) for figure in figures for name, frame in figure.data.items()},
        "figures": [
            {
                "id": f.id,
                "spec": f.spec,
                "data": list(f.data),
                "panels": f.panels,
                "panelPixels": f.panel_pixels,
                "labelPixels": f.label_pixels,
                "legendPixels": f.legend_pixels,
                "maxPixels": f.max_pixels,
                "axisPixels": f.axis_pixels,
                "label": f.alternative,
                "metrics": f.metrics,
            }
            for f in figures
        ],
        "themes": {scheme: theme(scheme) for scheme in INKS},
        "inks": INKS,
        "metricMark": METRIC_MARK,
        "exports": {table.id: _exports(table) for table in tables},
    }


def script_json(value: Any) -> str:
    """JSON for a `<script>` element, which it can neither close nor turn into a comment."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@functools.cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, in the version that Altair writes for."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vegalite_version())
    # Wrapped in a function to keep the short names of the bundle out of the global scope.
    return f"(function(){{{bundle}\n}})();".replace("</script", "<\\/script")


def _exports(table: Table) -> dict[str, Any]:
    groups = table.groups or [""]
    return {
        "csv": to_csv(table),
        "latex": {group: to_latex(table, group) for group in groups},
        "latexAll": {group: to_latex(table, group, minor=True) for group in groups} if table.has_minor else {},
    }


def _columns(frame: pl.DataFrame) -> dict[str, Any]:
    """The columns of a data set; a column of repeated texts as its distinct `texts` and their `places` by row."""
    found = {}
    for column in nan_to_null(frame):
        texts = column.unique(maintain_order=True).to_list() if column.dtype == pl.String else []
        if texts and 2 * len(texts) <= len(column):
            places = {text: place for place, text in enumerate(texts)}
            found[column.name] = {"texts": texts, "places": [places[text] for text in column.to_list()]}
        else:
            found[column.name] = column.to_list()
    return found


def _policy(scripts: list[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmgrid.reporting.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["explained"] = explained
    environment.filters["meaning"] = meaning_html
    environment.globals["explanation"] = explanation
    return environment


@functools.cache
def _asset(name: str) -> str:
    folder = Path(__file__).parent / "templates"
    return (folder / name).read_text(encoding="utf-8")
