"""The quality of each domain's semantic IDs: how evenly codes are used, what they lose, and how many collide."""

import polars as pl

from mmgrid.reporting.tables.table import Column, Table


def codes_table(codes: pl.DataFrame) -> Table | None:
    """One row per domain and seed; `None` without rows."""
    if codes.is_empty():
        return None
    bits = "of the level with the least even use of codes; at most log₂ of the number of codes"
    columns = [
        Column("domain", "Domain"),
        *([Column("seed", "Seed", digits=0)] if codes["seed"].n_unique() > 1 else []),
        Column("quantiser", "Quantiser", code=True),
        Column("items", "Items", digits=0, hint="items with codes"),
        Column("levels", "Levels", digits=0, hint="codes per item"),
        Column("codes", "Codes", digits=0, hint="codes available per level"),
        Column("least_used", "Codes used", digits=0, hint="by the level that uses the fewest"),
        Column("least_entropy_bits", "Entropy, bits", digits=2, hint=bits),
        Column("error", "Error, %", digits=1, hint="share of the item vectors’ variance that the codes do not explain"),
        Column(
            "colliding_before", "Collisions before", digits=0, hint="items with the same codes as another, as encoded"
        ),
        Column("colliding", "Collisions", digits=0, hint="items with the same codes as another, after resolution"),
    ]
    caption = (
        "The semantic IDs of each domain’s items: how evenly the codes are used, the reconstruction error, and how "
        "many items share all their codes with another item."
    )
    return Table("table-codes", "Semantic IDs", caption, tuple(columns), codes)
