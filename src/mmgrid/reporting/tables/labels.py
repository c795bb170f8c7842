"""How names of columns, metrics and groups of users are printed."""

from typing import Any

from mmgrid.evaluation import GROUPS

_COLUMNS = {
    "alpha": "α",
    "n": "n",
    "n_users": "Users",
    "p": "p",
    "p_adjusted": "p, Holm",
    "scale": "λ",
    "way": "Merged by",
    "recipe": "Merge",
}


def column_label(column: str) -> str:
    """`mean_gap_days` → `Mean gap days`; the columns that studies share have fixed labels."""
    words = column_words(column)
    return words if column in _COLUMNS else words[:1].upper() + words[1:]


def column_words(column: str) -> str:
    """The label of a column within a sentence: `mean_gap_days` → `mean gap days`."""
    return _COLUMNS.get(column) or column.replace("_", " ").strip()


def metric_label(metric: str) -> str:
    """`ndcg@10` → `NDCG@10`; `recall@10` → `Recall@10`."""
    family, _, cutoff = metric.partition("@")
    name = "Recall" if family == "recall" else family.upper()
    return f"{name}@{cutoff}" if cutoff else name


def group_label(group: str) -> str:
    """`non_active` → `non-active users`."""
    return f"{group.replace('_', '-')} users" if group in GROUPS else group


def value_label(column: str, value: Any) -> str:
    """A value of a column as it is printed; truth values are yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if column == "metric":
        return metric_label(str(value))
    return group_label(str(value)) if column == "group" else str(value)
