"""Writes every figure of a report as SVG and PDF, in the light theme, with the first value of each control."""

import copy
from pathlib import Path
from typing import Any

import vl_convert

from mmgrid.files import clear_disk_errors, replacing_files
from mmgrid.reporting.figures.figure import Figure, vegalite_version
from mmgrid.reporting.figures.theme import FACET_SPACING, theme
from mmgrid.reporting.inputs import ReportTables, checked
from mmgrid.reporting.page.page import report_page
from mmgrid.reporting.tables.table import nan_to_null

WIDTH = 1104
"""Pixels; the width of the page's column."""


def write_figures(tables: ReportTables, folder: Path) -> list[Path]:
    """Write `<figure>.svg` and `<figure>.pdf` for each figure of the report into `folder`, and return their paths.

    All are drawn before the first replaces an older one.

    Raises:
        ValueError: as `write_report`.
    """
    with clear_disk_errors(folder), replacing_files(folder) as work:
        names = draw_figures(tables, work)
    return [folder / name for name in names]


def draw_figures(tables: ReportTables, folder: Path) -> list[str]:
    """Draw the figures of the report into a new folder; returns the names of the files."""
    names = []
    for figure in report_page(checked(tables)).figures:
        svg = vl_convert.vegalite_to_svg(sized_spec(figure), vl_version=vegalite_version())
        for suffix, content in ((".svg", svg.encode()), (".pdf", vl_convert.svg_to_pdf(svg))):
            (folder / f"{figure.id}{suffix}").write_bytes(content)
            names.append(f"{figure.id}{suffix}")
    return names


def sized_spec(figure: Figure) -> dict[str, Any]:
    """The specification with data and theme, its panels sized to `WIDTH` as `fit` in behaviour.js does."""
    room = WIDTH - figure.label_pixels - 16
    spec = copy.deepcopy(figure.first_spec)
    spec["datasets"] = {name: nan_to_null(frame).to_dicts() for name, frame in figure.data.items()}
    config = theme("light")
    config["background"] = "white"
    config["legend"]["columns"] = max(1, room // figure.legend_pixels)
    spec["config"] = config
    if "spec" not in spec:  # a single panel
        if not figure.panel_pixels:
            spec["width"] = max(140, min(room, figure.max_pixels or room))
        return spec
    gap = FACET_SPACING + 14 + figure.axis_pixels
    spec["columns"] = max(1, min(figure.panels, (room + gap) // ((figure.panel_pixels or 190) + gap)))
    if not figure.panel_pixels:
        spec["spec"]["width"] = max(140, (room - gap * (spec["columns"] - 1)) // spec["columns"])
    return spec
