"""Summaries of the grid's own tables, in one or two sentences.

A summary states counts and ranges, and says where the numbers leave a question open: two recommenders with
overlapping intervals are not ordered, a change whose interval includes zero is not called a change, and the number
of comparisons is named where p-values or intervals are not corrected for it.
"""

from typing import Any

import polars as pl

from mmgrid.quantities import duration
from mmgrid.reporting.tables.labels import group_label, metric_label
from mmgrid.reporting.tables.losses import ends
from mmgrid.reporting.tables.numbers import count, is_are, is_number, listing, number, with_interval
from mmgrid.reporting.tables.order import BASELINE, STUDY_METRICS, ordered, ordered_metrics
from mmgrid.studies.kept_tables import is_family, is_merge

ENOUGH = 97  # percent of its own model's quality that a domain is to keep


def cells_summary(cells: pl.DataFrame) -> str:
    """How many cells are built, how long that took, and which failed."""
    if cells.is_empty():
        return "This grid has no cells."
    states = dict(cells["state"].value_counts().iter_rows())
    built = states.get("built", 0)
    parts = [f"{number(built)} of {count(cells.height, 'cell')} {is_are(built or cells.height)} built"]
    parts += [f"{number(states[s])} {s}" for s in ("failed", "blocked", "missing") if states.get(s)]
    text = ", ".join(parts)
    timed = cells.filter((pl.col("state") == "built") & pl.col("seconds").is_not_null())
    if not timed.is_empty():
        longest = timed.row(int(timed["seconds"].arg_max() or 0), named=True)
        text += f"; building them took {duration(sum(timed['seconds'].to_list()))} in total"
        if timed.height > 1:
            text += f", the longest {duration(longest['seconds'])} ({longest['name']})"
    failed = [
        f"{row['name']} ({row['problem'].rstrip('.')})" if row["problem"] else row["name"]
        for row in cells.filter(pl.col("state") == "failed").iter_rows(named=True)
    ]
    return f"{text}. Failed: {listing(failed)}." if failed else f"{text}."


def statistics_summary(statistics: pl.DataFrame) -> str:
    """How many test users there are, how many of them are active, and the mean gaps."""
    if statistics.is_empty():
        return "No domain is prepared yet."
    rows = [row for row in statistics.iter_rows(named=True) if row["test_users"]]
    if not rows:
        return "No domain has test users in these phases."
    shares = {row["domain"]: 100.0 * (row["active"] or 0) / row["test_users"] for row in rows}
    gaps = {row["domain"]: row["gap_days"] for row in rows if is_number(row["gap_days"])}
    if len(rows) == 1:
        domain = rows[0]["domain"]
        text = f"{domain} has {count(rows[0]['test_users'], 'test user')}; {number(shares[domain])} % are active."
        return text + (f" The mean gap is {number(gaps[domain])} days." if gaps else "")
    users = [row["test_users"] for row in rows]
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    text = (
        f"The domains have {number(min(users))} to {number(max(users))} test users; "
        f"{number(shares[low])} % ({low}) to {number(shares[high])} % ({high}) of them were active in phase 2."
    )
    if len(gaps) > 1:
        short, long = min(gaps, key=gaps.__getitem__), max(gaps, key=gaps.__getitem__)
        text += (
            f" The mean gap between an item’s first interaction and its later ones is shortest in {short} "
            f"({number(gaps[short])} days) and longest in {long} ({number(gaps[long])} days)."
        )
    return text


def scores_summary(scored: pl.DataFrame, group: str) -> str:
    """Which recommender is best on how many domains, and which are better than popularity."""
    shown = scored.filter((pl.col("group") == group) & ~pl.col("minor") & pl.col("value").is_finite())
    trained = shown.filter(pl.col("paradigm") != BASELINE)
    if trained.is_empty():
        return f"Nothing is evaluated on {group_label(group)} yet."
    metric = ordered_metrics(trained["metric"].to_list())[0]
    trained = trained.filter(pl.col("metric") == metric)
    popularity = shown.filter((pl.col("metric") == metric) & (pl.col("model") == "popularity"))
    parts = (_ranking_summary(trained, metric, group), _popularity_summary(trained, popularity))
    return " ".join(part for part in parts if part)


def _ranking_summary(trained: pl.DataFrame, metric: str, group: str) -> str:
    wins: dict[str, int] = {}
    undecided: list[str] = []
    compared = 0
    for (domain,), rows in trained.group_by("domain", maintain_order=True):
        if rows.height < 2:
            continue
        compared += 1
        first, second = rows.sort("value", descending=True, maintain_order=True).head(2).iter_rows(named=True)
        wins[first["label"]] = wins.get(first["label"], 0) + 1
        if not first["low"] > second["high"]:
            undecided.append(str(domain))
    if not compared:
        return ""
    best, *others = sorted(wins, key=lambda label: -wins[label])
    domains = count(compared, "domain")
    parts = [f"{best} is best in {wins[best]} of {domains}", *(f"{label} in {wins[label]}" for label in others)]
    text = f"By {metric_label(metric)} over {group_label(group)}, {listing(parts)}."
    if undecided:
        text += f" In {listing(undecided)} the intervals of the two best overlap, so their order is open."
    return text


def _popularity_summary(trained: pl.DataFrame, popularity: pl.DataFrame) -> str:
    by_domain = {row["domain"]: row for row in popularity.iter_rows(named=True)}
    rows = [row for row in trained.iter_rows(named=True) if row["domain"] in by_domain]
    if not rows:
        return ""
    above = [row for row in rows if row["low"] > by_domain[row["domain"]]["high"]]
    others = [f"{row['label']} on {row['domain']}" for row in rows if row not in above]
    text = f"The interval of {len(above)} of {count(len(rows), 'model')} lies above that of popularity"
    values = [(row["value"], by_domain[row["domain"]]["value"]) for row in above]
    factors = [value / popular for value, popular in values if popular > 0]
    if factors:
        least, most = number(min(factors), 1), number(max(factors), 1)
        text += f", by a factor of {least}" if least == most else f", by factors of {least} to {most}"
    return f"{text}; exceptions: {listing(others)}." if above and others else f"{text}."


def merges_summary(pairs: pl.DataFrame, group: str) -> str:
    """How many merges lower or raise the quality on a domain, and how many of them certainly.

    Args:
        pairs: `mmgrid.reporting.tables.merges.PAIRS_SCHEMA`.
        group: of users.
    """
    rows = pairs.filter(pl.col("group") == group)
    if rows.is_empty():
        return f"No merge of two domains is evaluated on {group_label(group)} yet."
    metric = ordered_metrics(rows["metric"].to_list())[0]
    rows = rows.filter(pl.col("metric") == metric)
    fell, rose = rows.filter(pl.col("change") < 0), rows.filter(pl.col("change") > 0)
    text = (
        f"By {metric_label(metric)} over {group_label(group)}, {fell.height} of {count(rows.height, 'merged model')} "
        f"{is_are(fell.height or rows.height)} worse than the domain’s own model and {rose.height} "
        f"{is_are(rose.height)} better"
    )
    tested = rows.filter(pl.col("significant").is_not_null()).height
    if not tested:
        return f"{text}. Without paired intervals it is open which of these changes are more than chance."
    sure_fell, sure_rose = (part.filter(pl.col("significant")).height for part in (fell, rose))
    open_ = rows.filter(~pl.col("significant")).height
    text += (
        f"; the paired interval excludes zero for {sure_fell} of the former and {sure_rose} of the latter, and "
        f"includes zero for {open_}"
    )
    text += f"; {rows.height - tested} have no paired interval." if tested < rows.height else "."
    extreme = rows.row(int(rows["change"].abs().arg_max() or 0), named=True)
    text += f" The largest change is {_change(extreme)}"
    return f"{text}; the intervals are not corrected for {tested} comparisons." if tested > 1 else f"{text}."


def _change(row: dict[str, Any]) -> str:
    change = with_interval(row["change"], row["low"], row["high"], 1, sign=True, unit="%")
    return f"{change} ({row['paradigm']}, {row['domain']} merged with {row['partner']} by {row['recipe']})"


def kept_summary(served: pl.DataFrame) -> str:
    """Which merge of each paradigm serves all of its domains best, and with how much a family does.

    Args:
        served: `mmgrid.studies.kept_tables.SERVED_SCHEMA`.
    """
    metric = ordered(served["metric"].to_list(), STUDY_METRICS)[0]
    rows = served.filter(metric=metric)
    family = is_family(rows)
    parts = [
        *_merges_that_keep_most(rows.filter(is_merge(rows)), metric),
        *_small_families(rows.filter(family), metric),
    ]
    return " ".join(parts) or "No named merge is evaluated yet."


def _small_families(served: pl.DataFrame, metric: str) -> list[str]:
    """For each paradigm, of the families of the most domains, the one with the fewest bytes that keeps enough of each."""
    parts = []
    for (paradigm,), rows in served.group_by("paradigm", maintain_order=True):
        known = rows.filter(pl.col("least").is_finite() & (pl.col("domains") == pl.col("domains").max()))
        if known.is_empty():
            continue
        enough = known.filter(pl.col("least") >= ENOUGH).sort("checkpoints", maintain_order=True)
        best = (known.sort("least", descending=True) if enough.is_empty() else enough).row(0, named=True)
        share = with_interval(best["least"], best["least_low"], best["least_high"], 1, unit="%")
        among = f"of {count(known.height, 'family', 'families')} of {count(best['domains'], 'domain')}"
        which = f"the smallest that keeps {ENOUGH} % in each" if enough.height else "the one that keeps most"
        parts.append(
            f"{paradigm}: {among}, {which} is {best['merge']}, with the bytes of {number(best['checkpoints'], 2)} "
            f"checkpoints in float32; each domain keeps at least {share} of its own model’s {metric_label(metric)}."
        )
    return parts


def _merges_that_keep_most(served: pl.DataFrame, metric: str) -> list[str]:
    parts = []
    for (paradigm,), rows in served.group_by("paradigm", maintain_order=True):
        known = rows.filter(pl.col("least").is_finite()).sort("least", descending=True, maintain_order=True)
        if known.is_empty():
            continue
        best = known.row(0, named=True)
        share = with_interval(best["least"], best["least_low"], best["least_high"], 1, unit="%")
        among = f" of {count(rows.height, 'merge')}" if rows.height > 1 else ""
        parts.append(
            f"{paradigm}: by the domain that keeps least, {best['merge']} keeps most{among}, {share} of its own model’s "
            f"{metric_label(metric)}."
        )
    return parts


def losses_summary(losses: pl.DataFrame) -> str:
    """How many trainings lowered their loss, and which did not."""
    if losses.is_empty():
        return "No training has logged a loss yet."
    table = ends(losses)
    names = pl.format("{} on {} in {}", "paradigm", "domain", "phase")
    if table["seed"].n_unique() > 1:
        names = pl.format("{} with seed {}", names, "seed")
    fell = table.filter(pl.col("last") < pl.col("first"))
    others = table.filter(~(pl.col("last") < pl.col("first")).fill_null(False)).select(names).to_series().to_list()
    diverged = table.filter(pl.col("diverged")).select(names).to_series().to_list()
    text = (
        f"In {fell.height} of {count(table.height, 'training')} the mean loss of the last tenth of the logged "
        "steps is lower than that of the first tenth"
    )
    text += f"; exceptions: {listing(others)}." if others and not fell.is_empty() else "."
    if diverged:
        text += f" Losses that are not finite were logged by {listing(diverged)}."
    if table["paradigm"].n_unique() > 1:
        text += " Losses of different paradigms measure different things and cannot be compared."
    return text
