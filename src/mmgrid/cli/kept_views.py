"""Prints what the merges and families of a grid keep of each domain's own model, and the bytes that serve all domains."""

from collections.abc import Sequence
from typing import Any

METRIC = "ndcg@10"


def print_merges(session: Any, group: str, metrics: Sequence[str], *, as_json: bool = False) -> None:
    """Print the kept shares of all merges and families, per domain and over the domains of each.

    Args:
        session: of the grid.
        group: of users.
        metrics: that the user asked for; those that are known of merges are shown. JSON has all of them.
    """
    from mmgrid.cli import draw
    from mmgrid.grid.standing.kept import kept_tables
    from mmgrid.studies.kept_tables import is_family
    from mmgrid.studies.statistics.ranked import METRICS

    kept, served = kept_tables(session.records, session.store, group=group)
    if as_json:
        draw.print_json({"kept": kept.to_dicts(), "served": served.to_dicts()})
        return
    if kept.is_empty():
        draw.say(("Merges", "bold"), ": none is evaluated yet")
        return
    several_seeds, several_draws = kept["seed"].n_unique() > 1, bool((served["draws"] > 1).any())
    families = " and families" if is_family(served).any() else ""
    for metric in [one for one in metrics if one in METRICS] or [METRIC]:
        for title, table in (
            (f"Merges{families}, group {group}: percent of the own model's {metric} that is kept", kept),
            ("All domains: smallest share, mean, bytes in single checkpoints, minutes to make", served),
        ):
            rows = [_row(row, several_seeds, several_draws) for row in table.filter(metric=metric).to_dicts()]
            columns = list(rows[0])
            draw.print_table(title, columns, [list(row.values()) for row in rows], left=3 if "domain" in columns else 2)


def _row(row: dict[str, Any], several_seeds: bool, several_draws: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"paradigm": row["paradigm"], "merge": row["merge"]}
    if several_seeds:
        shown["merge"] += f" seed={row['seed']}"
    if "domain" in row:
        shown |= {"domain": row["domain"], "own": _short(row["single"]), "merged": _short(row["merged"])}
        return shown | {"kept": _interval(row["kept"], row["low"], row["high"]), "users": row["n_users"]}
    shown |= {name: _interval(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in ("least", "mean")}
    shown |= {"domains": row["domains"]} | ({"draws": row["draws"]} if several_draws else {})
    return shown | {
        "float32": _times(row["checkpoints"]),
        "bf16": _times(row["bf16_checkpoints"]),
        "minutes": row["minutes"],
    }


def _times(checkpoints: float | None) -> str:
    """`1.38×`."""
    from mmgrid.quantities import UNKNOWN

    return UNKNOWN if checkpoints is None else f"{checkpoints:.2f}×"


def _interval(value: float | None, low: float | None, high: float | None) -> Any:
    """`54.2 48.1–60.3`, as in the table of results."""
    from mmgrid.cli import draw
    from mmgrid.quantities import UNKNOWN

    middle, lower, upper = map(_short, (value, low, high))
    return middle if lower == UNKNOWN else draw.text_of(middle, (f" {lower}–{upper}", "dim"))


def _short(value: float | None) -> str:
    from mmgrid.cli.numbers import short_number
    from mmgrid.quantities import UNKNOWN

    return UNKNOWN if value is None else short_number(value)
