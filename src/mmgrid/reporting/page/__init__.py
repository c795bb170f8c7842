"""The report as one HTML file: its parts in order, its script and style, and figures as files."""
