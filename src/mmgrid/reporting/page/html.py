"""One HTML file that opens without a network: text, style, chart library and data, all inside.

Names of domains, items and cells come from outside.  They are escaped in the text (Jinja's autoescape), cannot
end the data block (every ``<`` in the JSON is written as an escape), and even if they could, a content security
policy lets only the two scripts of this file run, known by their digests, and lets nothing be loaded.
"""

from __future__ import annotations

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
from mmgrid.reporting.figures.figure import vegalite_version
from mmgrid.reporting.figures.theme import INKS, theme
from mmgrid.reporting.inputs import ReportTables, checked
from mmgrid.reporting.page.contents import sections
from mmgrid.reporting.tables.comparison import group_label
from mmgrid.reporting.tables.tables import Table, without_nan
from mmgrid.reporting.tables.writers import to_csv, to_latex
from mmgrid.reporting.text.section import Section

_LABELS = {group: group_label(group).removesuffix(" users").capitalize() for group in GROUPS}


def write_report(tables: ReportTables, out: Path) -> Path:
    """Write the report to ``out`` (one HTML file, replaced as a whole) and return that path.

    Raises:
        ValueError: if a table with rows lacks a column; the message names both.
    """
    text = page(tables)
    with clear_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, text.encode())
    return out


def page(tables: ReportTables) -> str:
    """The report as text."""
    parts = sections(checked(tables))
    template = _environment().get_template("report.html.j2")
    library = chart_library() if any(part.figures for part in parts) else ""
    behaviour = _asset("behaviour.js")
    present = {sentence.group for part in parts for sentence in part.sentences}
    return template.render(
        name=tables.name,
        command=tables.command,
        facts=tables.facts,
        sections=parts,
        groups=[(group, _LABELS[group]) for group in GROUPS if group in present],
        style=_asset("style.css"),
        library=library,
        behaviour=behaviour,
        payload=script_json(payload(parts)),
        policy=_policy([script for script in (library, behaviour) if script]),
    )


def payload(parts: list[Section]) -> dict[str, Any]:
    """What the page's script reads: the shared data sets, the figures, and every table as CSV and LaTeX."""
    figures = [figure for part in parts for figure in part.figures]
    tables = [table for part in parts for table in (*part.tables, *part.details)]
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
            }
            for f in figures
        ],
        "themes": {scheme: theme(scheme) for scheme in INKS},
        "inks": INKS,
        "exports": {table.id: _exports(table) for table in tables},
    }


def script_json(value: Any) -> str:
    """JSON that may stand inside a ``<script>`` element: it can neither close the element nor open a comment."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@functools.cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, in the version that Altair writes for."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vegalite_version())
    # A function of its own keeps the bundle's many short names out of the page's.
    return f"(function(){{{bundle}\n}})();".replace("</script", "<\\/script")


def _exports(table: Table) -> dict[str, Any]:
    groups = table.groups or [""]
    return {
        "csv": to_csv(table),
        "latex": {group: to_latex(table, group) for group in groups},
        "latexAll": {group: to_latex(table, group, minor=True) for group in groups} if table.has_minor else {},
    }


def _columns(frame: pl.DataFrame) -> dict[str, Any]:
    """The columns of a data set; one of texts that repeat as its distinct ``texts`` and each row's place among them."""
    found = {}
    for column in without_nan(frame):
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
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mmgrid.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


@functools.cache
def _asset(name: str) -> str:
    folder = Path(__file__).parent / "templates"
    return (folder / name).read_text(encoding="utf-8")
