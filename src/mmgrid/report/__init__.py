"""Result tables become one HTML file that opens offline.  Reads tables, never models."""

from mmgrid.report.html import write_report
from mmgrid.report.inputs import ReportTables

__all__ = ["ReportTables", "write_report"]
