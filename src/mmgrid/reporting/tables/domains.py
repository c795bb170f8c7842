"""Table 1: users, items and interactions of each domain, and its test users."""

import polars as pl

from mmgrid.reporting.tables.table import Column, Table


def statistics_table(statistics: pl.DataFrame) -> Table | None:
    """One row per domain; `None` without rows."""
    if statistics.is_empty():
        return None
    columns = [
        Column("domain", "Domain"),
        Column("users", "Users", digits=0),
        Column("items", "Items", digits=0),
        Column("pretrain", "Pretrain", digits=0, hint="interactions in this phase"),
        Column("phase1", "Phase 1", digits=0, hint="interactions in this phase"),
        Column("phase2", "Phase 2", digits=0, hint="interactions in this phase"),
        Column("test", "Test", digits=0, hint="interactions in this phase"),
        Column("items_test", "Test items", digits=0, hint="items with an interaction in the test phase"),
        Column("test_users", "Test users", digits=0),
        Column("active", "Active", digits=0, hint="test users with an interaction in phase 2"),
        Column("non_active", "Non-active", digits=0, hint="test users without an interaction in phase 2"),
        Column("active_ratio", "Active ratio", digits=3, hint="active users divided by test users"),
        Column(
            "gap_days",
            "Gap, days",
            digits=1,
            hint="mean time between an item’s first interaction and its later ones, in the training data",
        ),
    ]
    caption = (
        "The prepared domains: users, items, interactions in each phase, and test users. Active users have an "
        "interaction in phase 2."
    )
    return Table("table-1", "Table 1", caption, tuple(columns), statistics)
