"""The figures of the report, drawn from what studies declare."""
