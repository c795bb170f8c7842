"""Merging across domains: how a merge of two domains' models changes the quality on each of them."""

import polars as pl

from mmgrid.reporting.studies.study_table import difference, study_table
from mmgrid.reporting.studies.view import Frames, Lead, View
from mmgrid.reporting.studies.wording import Quantity, extremes, extremes_text, main_metric_label, main_metric_rows
from mmgrid.reporting.tables.labels import group_label
from mmgrid.reporting.tables.numbers import count, is_are, listing, number
from mmgrid.reporting.tables.order import ordered
from mmgrid.reporting.tables.significance import count_differences, significance_text
from mmgrid.reporting.tables.table import Column, Table
from mmgrid.reporting.text.headlines import MERGE
from mmgrid.reporting.text.section import Headline, Paragraph, paragraph, paragraph_per_group

_CHANGE = Quantity("change", digits=1, unit="%")
_KEPT = Quantity("kept", digits=1, unit="%", sign=False)
_WAYS = ("weight", "subspace")


def _paragraphs(frames: Frames) -> tuple[Paragraph, ...]:
    rows = main_metric_rows(frames["merges"], "change")
    by_size = _by_size(frames)

    def summary(rows: pl.DataFrame, group: str) -> str:
        return " ".join([_summary(rows, group), *(by_size if group == "all" else ())])

    pairs = paragraph_per_group(rows, summary)
    return pairs or paragraph(*by_size) or paragraph("No merge of two domains is evaluated yet.")


def _by_size(frames: Frames) -> list[str]:
    """What is kept by the smallest and the largest merges; nothing if all have the same number of domains."""
    rows = main_metric_rows(frames["sizes"], "kept")
    if rows["size"].n_unique() < 2:
        return []
    parts = []
    for (paradigm, way), own in rows.group_by("paradigm", "way", maintain_order=True):
        few, many = (own.sort("size").row(place, named=True) for place in (0, -1))
        parts.append(
            f"Merged by {way}, a domain keeps on average {_KEPT.text(few)} of {paradigm}’s {main_metric_label(rows)} "
            f"among {few['size']} domains and {_KEPT.text(many)} among {many['size']}."
        )
    return parts


def _summary(rows: pl.DataFrame, group: str) -> str:
    parts = []
    for way in ordered(rows["way"].to_list(), _WAYS):
        counts = count_differences(rows.filter(pl.col("way") == way), "change")
        parts.append(
            f"Merging by {way} leaves {counts.down} of {count(counts.rows, 'value')} below the domain’s own model and "
            f"{counts.up} above it; {significance_text(counts)}."
        )
    low, high = extremes_text(
        rows, _CHANGE, lambda row: f"{row['domain']} merged with {row['partner']} by {row['way']}"
    )
    if low != high:
        parts.append(f"The lowest change is {low}, the highest {high}.")
    return " ".join([f"{main_metric_label(rows)} over {group_label(group)}.", *parts])


def _headline(frames: Frames, paradigm: str) -> Headline | None:
    rows = main_metric_rows(frames["merges"], "change").filter(group="all", paradigm=paradigm)
    ways = {way: rows.filter(way=way) for way in ordered(rows["way"].to_list(), _WAYS)}
    if not ways:
        return None
    (first, own), *others = ways.items()
    start = f"Merging {paradigm} by {first} with the model of another domain changes {main_metric_label(rows)} by "
    sentences = [f"{start}{_cost(own)}.", *(f"By {way}: {_cost(rows)}." for way, rows in others)]
    return Headline(MERGE, " ".join(sentences))


def _cost(rows: pl.DataFrame) -> str:
    """`−58.5 % [−70.5, −46.5] (a with b) to −1.0 % [−2.0, +0.1], median −25.1 %; 5 of 6 merges are …`."""
    low, high = extremes(rows, "change")
    span = f"{_CHANGE.text(low)} ({low['domain']} with {low['partner']})"
    if rows.height > 1:
        median = number(rows["change"].median(), 1, sign=True)  # type: ignore[arg-type]
        span += f" to {_CHANGE.text(high)}, median {median} %"
    counts = count_differences(rows, "change")
    if not counts.tested:
        return f"{span}; without p-values it is undecided which changes are more than chance"
    parts = [
        (counts.significant_down, "significantly worse"),
        (counts.significant_up, "significantly better"),
        (counts.rows - counts.significant_down - counts.significant_up, "undecided"),
    ]
    known = [f"{amount} of {counts.rows} {is_are(amount)} {verdict}" for amount, verdict in parts if amount]
    return f"{span}; {listing(known)}"


def _tables(frames: Frames) -> tuple[Table, ...]:
    columns = (
        "paradigm",
        Column("way", "Merged by"),
        Column("domain", "Evaluated on"),
        Column("partner", "Merged with"),
        Column("single", "Own model, %", digits=2),
        Column("merged", "Merged, %", digits=2),
        difference("change", "Change, %", 1),
        "p_adjusted",
        "n_users",
    )
    caption = (
        "Quality before and after merging two domains’ models, and the change in percent of the own model’s value."
    )
    changes = study_table("table-changes", "Changes", caption, columns, frames["merges"], orders={"way": _WAYS})
    return (*changes, *_partner_table(frames), *_size_tables(frames))


def _partner_table(frames: Frames) -> tuple[Table, ...]:
    columns = (
        "paradigm",
        Column("way", "Merged by"),
        Column("partner", "Merged with"),
        Column("diversity", "Diversity", digits=3, hint="mean cosine distance of two of the partner’s items"),
        Column("kept", "Others keep, %", digits=1, low="low", high="high", hint="mean over the other domains"),
        Column("merges", "Merges", digits=0),
    )
    caption = (
        "The share of their own model’s value that other domains keep when they are merged with one domain, and how "
        "diverse the texts of that domain are."
    )
    orders = {"way": _WAYS}
    return study_table("table-partners", "As partners", caption, columns, frames["partners"], orders=orders)


def _size_tables(frames: Frames) -> tuple[Table, ...]:
    """What merges of more domains keep, and what predicts it; nothing if all merges are pairs."""
    orders = {"way": _WAYS}
    sizes, predictors = frames["sizes"], frames["predictors"]
    found: tuple[Table, ...] = ()
    if sizes["size"].n_unique() > 1:
        columns = (
            "paradigm",
            Column("way", "Merged by"),
            Column("size", "Domains", digits=0, hint="merged into one model"),
            Column("sets", "Sets", digits=0),
            Column("kept", "Kept, %", digits=1, low="low", high="high", hint="mean over domains and sets"),
            Column(
                "least",
                "All keep, %",
                digits=1,
                low="least_low",
                high="least_high",
                hint="the share of the domain that keeps least, mean over sets",
            ),
        )
        caption = (
            "The share of its own model’s value that a domain keeps when the models of several are merged into one."
        )
        found += study_table("table-sizes", "Kept by number of domains", caption, columns, sizes, orders=orders)
    columns = (
        "paradigm",
        Column("way", "Merged by"),
        Column("predictor", "Predictor"),
        Column("value", "Spearman’s ρ", digits=2, low="low", high="high", sign=True),
        "p_adjusted",
        Column("n", "n", digits=0, hint="merges"),
    )
    caption = "How well measures of the models, known before a merge, order what the domains keep, within one size."
    return found + study_table("table-predictors", "Predictors", caption, columns, predictors, orders=orders)


VIEW = View(
    "Domains",
    _paragraphs,
    _tables,
    orders={"way": _WAYS},
    headline=_headline,
    lead=Lead("changes", 1, {"group": "all"}),
    merges="merges",
)
