"""The report as one HTML file, and its figures as files."""
