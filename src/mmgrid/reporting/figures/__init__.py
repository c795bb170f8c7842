"""The figures of the report: those of the grid itself, and those that studies declare."""
