"""What Polars raises for a table that is damaged."""

import polars as pl

DAMAGED = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""A panic of its Rust code is no `Exception` of Python, and passes by whoever catches only these."""
