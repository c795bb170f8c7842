"""Adds what was measured to a card: to its metadata, which the Hub reads, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_HEADING = "## Results"
_TASK, _TASK_NAME = "recommendation", "Sequential recommendation"


@dataclass(frozen=True)
class Measured:
    """One figure of an evaluation, in percent, with the bounds of its 95 % interval.

    Attributes:
        domain, split: on which it was measured: `games`, `test`.
        group: of users: all, active or non_active.
        metric: such as recall@10.
        users: how many.
    """

    domain: str
    split: str
    group: str
    metric: str
    value: float
    low: float
    high: float
    users: int


def with_results(card: str, measured: Sequence[Measured], name: str) -> str:
    """The card with results; its text and the rest of its metadata stay. Results from before are replaced.

    Args:
        card: the text of `README.md`.
        measured: figures; those of all users also become metadata.
        name: of the model.

    Raises:
        ValueError: the card's metadata is not YAML.
    """
    from huggingface_hub import EvalResult, ModelCard

    if not measured:
        return card
    try:
        found = ModelCard(card, ignore_metadata_errors=True)
    except yaml.YAMLError as error:
        raise ValueError(
            f"the metadata at the top of README.md is not YAML ({' '.join(str(error).split())})"
        ) from error
    data: Any = found.data
    data.model_name = name
    data.eval_results = [
        EvalResult(
            task_type=_TASK,
            task_name=_TASK_NAME,
            dataset_type=one.domain,
            dataset_name=one.domain,
            dataset_split=one.split,
            metric_type=one.metric,
            metric_name=f"{one.metric} (percent)",
            metric_value=round(one.value, 2),
        )
        for one in measured
        if one.group == "all"
    ]
    text = found.text
    before, heading, after = text.partition(f"\n{_HEADING}\n")
    if heading:
        _, rest, after = after.partition("\n## ")
        text = before.rstrip() + ("\n\n## " + after if rest else "\n")
    found.text = f"\n{text.strip()}\n\n{_table(measured)}\n"
    return str(found)


def _table(measured: Sequence[Measured]) -> str:
    rows = ["| domain | ranked on | users | metric | percent | 95 % interval |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {one.domain} | {one.split} | {one.group} ({one.users:,}) | {one.metric} | {one.value:.2f} | "
        f"{one.low:.2f} to {one.high:.2f} |"
        for one in measured
    ]
    about = "Ranks over the whole catalogue, by MMGRid; intervals are bootstrapped over users."
    return f"{_HEADING}\n\n{about}\n\n" + "\n".join(rows)
