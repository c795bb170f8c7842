"""Columns of the studies' tables, by type."""

import polars as pl


def texts(*names: str) -> dict[str, type[pl.DataType]]:
    """Columns of text."""
    return dict.fromkeys(names, pl.String)


def numbers(*names: str) -> dict[str, type[pl.DataType]]:
    """Columns of floating-point numbers."""
    return dict.fromkeys(names, pl.Float64)


def counts(*names: str) -> dict[str, type[pl.DataType]]:
    """Columns of whole numbers."""
    return dict.fromkeys(names, pl.Int64)
