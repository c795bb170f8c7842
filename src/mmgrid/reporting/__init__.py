"""Turns result tables into one HTML file that opens offline, or into picture files; reads tables, never models."""

from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.page.figure_files import write_figures
from mmgrid.reporting.page.html import write_report
from mmgrid.reporting.page.publish import default_report, publish_report

__all__ = ["ReportTables", "default_report", "publish_report", "write_figures", "write_report"]
