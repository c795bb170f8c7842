"""How good the domains' semantic IDs are: how evenly their codes are used, what they lose, and what collides."""

from __future__ import annotations

import polars as pl

from mmgrid.reporting.tables.tables import Column, Table


def codes_table(codes: pl.DataFrame) -> Table | None:
    """One row a domain and seed; ``None`` without rows."""
    if codes.is_empty():
        return None
    bits = "of the level whose codes are used least evenly; all codes of a level used alike have log₂ of their number"
    columns = [
        Column("domain", "Domain"),
        *([Column("seed", "Seed", digits=0)] if codes["seed"].n_unique() > 1 else []),
        Column("quantiser", "Quantiser", code=True),
        Column("items", "Items", digits=0, hint="that have codes"),
        Column("levels", "Levels", digits=0, hint="codes of an item"),
        Column("codes", "Codes", digits=0, hint="different codes of a level"),
        Column("least_used", "Used", digits=0, hint="different codes in use, of the level that uses the fewest"),
        Column("least_entropy_bits", "Entropy, bits", digits=2, hint=bits),
        Column("error", "Left over, %", digits=1, hint="share of the vectors’ variance that the codes do not tell"),
        Column("colliding_before", "Colliding before", digits=0, hint="items that share their codes, as encoded"),
        Column("colliding", "Colliding", digits=0, hint="items that share their codes, after some were moved"),
    ]
    caption = (
        "The semantic IDs of each domain’s items: how evenly the codes of a level are used, how much of the items’ "
        "vectors they leave untold, and how many items share all of their codes with another."
    )
    return Table("table-codes", "Semantic IDs", caption, tuple(columns), codes)
