"""Turns result tables into one HTML file that opens offline, or into picture files; reads tables, never models."""

from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.page.figure_files import write_figures
from mmgrid.reporting.page.html import write_report

__all__ = ["ReportTables", "write_figures", "write_report"]
