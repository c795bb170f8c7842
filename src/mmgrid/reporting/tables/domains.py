"""Table 1: what the domains' data is: people, items, interactions of each phase, and who is tested."""

from __future__ import annotations

import polars as pl

from mmgrid.reporting.tables.tables import Column, Table


def statistics_table(statistics: pl.DataFrame) -> Table | None:
    """One row a domain; ``None`` without rows."""
    if statistics.is_empty():
        return None
    columns = [
        Column("domain", "Domain"),
        Column("users", "Users", digits=0),
        Column("items", "Items", digits=0),
        Column("pretrain", "Pretrain", digits=0, hint="interactions of the phase"),
        Column("phase1", "Phase 1", digits=0, hint="interactions of the phase"),
        Column("phase2", "Phase 2", digits=0, hint="interactions of the phase"),
        Column("test", "Test", digits=0, hint="interactions of the phase"),
        Column("items_test", "Test items", digits=0, hint="items with an interaction in the test phase"),
        Column("test_users", "Test users", digits=0),
        Column("active", "Active", digits=0, hint="test users with an interaction in phase 2"),
        Column("non_active", "Non-active", digits=0, hint="test users without an interaction in phase 2"),
        Column("active_ratio", "Active ratio", digits=3, hint="active among all test users"),
        Column(
            "gap_days",
            "Gap, days",
            digits=1,
            hint="mean time from an item’s first interaction to an interaction with it, training data only",
        ),
    ]
    caption = (
        "The domains after preparation: users, items, interactions in each phase, and the test users by whether "
        "they were active in phase 2."
    )
    return Table("table-1", "Table 1", caption, tuple(columns), statistics)
