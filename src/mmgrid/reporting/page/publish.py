"""Puts the report and its figures in their places, so that neither is ever newer than the other."""

from pathlib import Path

from mmgrid.files import clear_disk_errors, file_stem, replacing_file, replacing_files
from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.page.figure_files import draw_figures
from mmgrid.reporting.page.html import report_html, write_report

_MARK = b'<meta name="generator" content="mmgrid">'
_HEAD_BYTES = 4096


def default_report(name: str) -> Path:
    """The file of a grid's report if the user names none: in the working folder, called after the grid.

    Raises:
        FileExistsError: a file of this name is there, and it is not a report.
    """
    out = Path(f"{file_stem(name)}.html")
    if out.exists():
        with out.open("rb") as stream:
            if _MARK not in stream.read(_HEAD_BYTES):
                raise FileExistsError(f"{out}: exists already, and is not a report of mmgrid; name another file")
    return out


def publish_report(tables: ReportTables, out: Path, figures: Path | None = None) -> list[Path]:
    """Write the report, and its figures into the folder `figures`; returns the paths of the figures.

    Everything is written before the first old file is replaced. Other files in `figures` stay.

    Raises:
        ValueError: as `report_html`.
        DiskFull, NotWritableError: a file cannot be written; no old file is replaced.
    """
    if figures is None:
        write_report(tables, out)
        return []
    text = report_html(tables)
    with clear_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(out, text.encode()), clear_disk_errors(figures), replacing_files(figures) as work:
            names = draw_figures(tables, work)
    return [figures / name for name in names]
