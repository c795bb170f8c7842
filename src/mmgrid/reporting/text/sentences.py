"""What the tables and figures show, in one or two sentences made from their numbers.

The rule: a sentence states what was counted, and says where the numbers leave a question open.  Two intervals
that overlap do not order two recommenders; a change whose interval holds zero is no change yet; many
comparisons are said to be many.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from mmgrid.reporting.tables.comparison import BASELINE, group_label, metric_label, metric_order
from mmgrid.reporting.tables.losses import ends
from mmgrid.reporting.tables.merges import change_text
from mmgrid.reporting.tables.numbers import count, duration, is_are, is_number, listing, number


def on_cells(cells: pl.DataFrame) -> str:
    """How much of the grid exists, what it took, and what failed."""
    if cells.is_empty():
        return "This grid has no cells."
    states = dict(cells["state"].value_counts().iter_rows())
    built = states.get("built", 0)
    parts = [f"{number(built)} of {count(cells.height, 'cell')} {is_are(built or cells.height)} built"]
    parts += [f"{number(states[s])} {s}" for s in ("failed", "blocked", "missing") if states.get(s)]
    timed = cells.filter((pl.col("state") == "built") & pl.col("seconds").is_not_null())
    text = ", ".join(parts)
    if not timed.is_empty():
        longest = timed.row(int(timed["seconds"].arg_max() or 0), named=True)
        text += (
            f"; building them took {duration(sum(timed['seconds'].to_list()))} in sum, of which "
            f"{longest['name']} took the most ({duration(longest['seconds'])})"
        )
    failed = [
        f"{row['name']} ({row['problem'].rstrip('.')})" if row["problem"] else row["name"]
        for row in cells.filter(pl.col("state") == "failed").iter_rows(named=True)
    ]
    return f"{text}. Failed: {listing(failed)}." if failed else f"{text}."


def on_statistics(statistics: pl.DataFrame) -> str:
    """How many people are tested, how many of them were active, and how old what they read is."""
    if statistics.is_empty():
        return "No domain is prepared yet."
    rows = [row for row in statistics.iter_rows(named=True) if row["test_users"]]
    if not rows:
        return "No domain has test users in these phases."
    shares = {row["domain"]: 100.0 * (row["active"] or 0) / row["test_users"] for row in rows}
    gaps = {row["domain"]: row["gap_days"] for row in rows if is_number(row["gap_days"])}
    if len(rows) == 1:
        domain = rows[0]["domain"]
        text = f"{domain} has {count(rows[0]['test_users'], 'test user')}, {number(shares[domain])} % of them active."
        return text + (f" The mean gap is {number(gaps[domain])} days." if gaps else "")
    users = [row["test_users"] for row in rows]
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    text = (
        f"The domains have {number(min(users))} to {number(max(users))} test users, of whom "
        f"{number(shares[low])} % ({low}) to {number(shares[high])} % ({high}) were active in phase 2."
    )
    if len(gaps) > 1:
        short, long = min(gaps, key=gaps.__getitem__), max(gaps, key=gaps.__getitem__)
        text += (
            f" The mean gap between an item’s first interaction and an interaction with it is shortest in "
            f"{short} ({number(gaps[short])} days) and longest in {long} ({number(gaps[long])} days)."
        )
    return text


def on_scores(scored: pl.DataFrame, group: str) -> str:
    """Who is ahead on how many domains, where that is open, and how all compare with popularity."""
    shown = scored.filter((pl.col("group") == group) & ~pl.col("minor") & pl.col("value").is_finite())
    trained = shown.filter(pl.col("paradigm") != BASELINE)
    if trained.is_empty():
        return f"Nothing is evaluated on {group_label(group)} yet."
    metric = metric_order(trained["metric"].to_list())[0]
    trained = trained.filter(pl.col("metric") == metric)
    popularity = shown.filter((pl.col("metric") == metric) & (pl.col("model") == "popularity"))
    return " ".join(part for part in (_on_order(trained, metric, group), _on_popularity(trained, popularity)) if part)


def _on_order(trained: pl.DataFrame, metric: str, group: str) -> str:
    leads: dict[str, int] = {}
    undecided: list[str] = []
    compared = 0
    for (domain,), rows in trained.group_by("domain", maintain_order=True):
        if rows.height < 2:
            continue
        compared += 1
        first, second = rows.sort("value", descending=True, maintain_order=True).head(2).iter_rows(named=True)
        leads[first["label"]] = leads.get(first["label"], 0) + 1
        if not first["low"] > second["high"]:
            undecided.append(str(domain))
    if not compared:
        return ""
    order = sorted(leads, key=lambda label: -leads[label])
    of = f" of {count(compared, 'domain')}"
    where = [f"{label} {'is highest ' * (i == 0)}in {leads[label]}{of * (i == 0)}" for i, label in enumerate(order)]
    text = f"By {metric_label(metric)} over {group_label(group)}, {listing(where)}."
    if undecided:
        text += f" In {listing(undecided)} the intervals of the two highest overlap, so that their order stays open."
    return text


def _on_popularity(trained: pl.DataFrame, popularity: pl.DataFrame) -> str:
    base = {row["domain"]: row for row in popularity.iter_rows(named=True)}
    rows = [row for row in trained.iter_rows(named=True) if row["domain"] in base]
    if not rows:
        return ""
    above = [row for row in rows if row["low"] > base[row["domain"]]["high"]]
    names = [f"{row['label']} on {row['domain']}" for row in rows if row not in above]
    text = f"The interval lies wholly above that of popularity for {len(above)} of {count(len(rows), 'model')}"
    factors = [row["value"] / base[row["domain"]]["value"] for row in above if base[row["domain"]]["value"] > 0]
    if factors:
        least, most = number(min(factors), 1), number(max(factors), 1)
        text += f", by a factor of {least}" if least == most else f", by factors of {least} to {most}"
    return f"{text}; not for {listing(names)}." if names else f"{text}."


def on_merges(found: pl.DataFrame, group: str) -> str:
    """How many merges changed a domain for the worse or the better, as far as the intervals tell."""
    rows_of_group = found.filter(pl.col("group") == group)
    if rows_of_group.is_empty():
        return f"No merge of two domains is evaluated on {group_label(group)} yet."
    metric = metric_order(rows_of_group["metric"].to_list())[0]
    rows = rows_of_group.filter(pl.col("metric") == metric)
    fell, rose = rows.filter(pl.col("change") < 0), rows.filter(pl.col("change") > 0)
    start = (
        f"By {metric_label(metric)} over {group_label(group)}, of {count(rows.height, 'merged model')} evaluated "
        f"on one of the domains, {fell.height} fell below the domain’s own model and {rose.height} rose above it"
    )
    judged = rows.filter(pl.col("decided").is_not_null()).height
    if not judged:
        return f"{start}. Paired intervals are not at hand, so which of these changes are more than chance is open."
    sure_fell, sure_rose = (part.filter(pl.col("decided")).height for part in (fell, rose))
    open_ = rows.filter(~pl.col("decided")).height
    text = (
        f"{start}; the paired interval leaves zero out for {sure_fell} of the falls and {sure_rose} of the rises, "
        f"and includes zero for {open_}"
    )
    text += f"; {rows.height - judged} have no paired interval." if judged < rows.height else "."
    extreme = rows.row(int(rows["change"].abs().arg_max() or 0), named=True)
    text += f" The largest change is {_change(extreme)}"
    return f"{text}; the intervals are not corrected for {judged} comparisons." if judged > 1 else f"{text}."


def _change(row: dict[str, Any]) -> str:
    change = change_text(row["change"], row["low"], row["high"])
    return f"{change} ({row['paradigm']}, {row['domain']} merged with {row['partner']} by {row['recipe']})"


def on_losses(losses: pl.DataFrame) -> str:
    """How many trainings ended lower than they began, and which did not."""
    if losses.is_empty():
        return "No training has logged a loss yet."
    table = ends(losses)
    names = pl.format("{} on {} in {}", "paradigm", "domain", "phase")
    if table["seed"].n_unique() > 1:
        names = pl.format("{} with seed {}", names, "seed")
    fell = table.filter(pl.col("last") < pl.col("first"))
    stayed = table.filter(~(pl.col("last") < pl.col("first")).fill_null(False)).select(names).to_series().to_list()
    diverged = table.filter(pl.col("diverged")).select(names).to_series().to_list()
    text = (
        f"In {fell.height} of {count(table.height, 'training')} the mean loss of the last tenth of the logged "
        "steps is below that of the first tenth"
    )
    text += f"; not in {listing(stayed)}." if stayed else "."
    if diverged:
        text += f" Losses that are not finite were logged by {listing(diverged)}."
    if table["paradigm"].n_unique() > 1:
        text += " Losses of different paradigms measure different things and cannot be compared."
    return text
