"""Result tables become one HTML file that opens offline, or pictures of its figures.  Reads tables, never models."""

from mmgrid.report.figure_files import write_figures
from mmgrid.report.html import write_report
from mmgrid.report.inputs import ReportTables

__all__ = ["ReportTables", "write_figures", "write_report"]
