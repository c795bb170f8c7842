"""Writes a grid file for data that nobody described: what was guessed, and how to change it."""

import os
from pathlib import Path
from typing import Any

from mmgrid.data.calendar import format_time
from mmgrid.data.looking import Found
from mmgrid.data.planning import Plan
from mmgrid.grid.file.toml_value import toml_value

_MOST_USERS = 4000  # of a domain; a first grid should not take a night

_HEAD = """\
# A grid for mmgrid, written by looking at {root}.
# `mmgrid data stats FILE` shows what is in each phase, `mmgrid plan FILE` the cells, `mmgrid run FILE` builds them.
# Lines marked with (?) are guesses: check them. A line that is commented out shows an optional key.

name = {name}
seed = 0

[data]
"""

_PHASES = """
[phases]                            # half-open intervals, UTC (?)
# {how}
{phases}
"""

_TEXTS = """
[backbone]                          # the language model that training starts from; "tiny" is trained on item texts
kind = "tiny"                       # or "pretrained", with only path = a folder or an id on the Hugging Face hub
hidden_size = 64                    # remove these seven lines for a better model: the defaults are larger
layers = 2
heads = 2
key_value_heads = 1
intermediate_size = 192
vocabulary = 2048
steps = 150

[paradigms.semb]                    # a generative recommender (also: text, semid); empty: the defaults

[paradigms.sasrec]                  # a baseline

[evaluation]
max_users = 2000                    # of each domain's test users, the same for every model
"""

_NO_TEXTS = """
# The items have no texts, so only models that read none can be trained. To train generative recommenders, add a table
# of items with titles to [data]: items = "items.csv", columns = { …, title = "name" }, then:
# [backbone]
# kind = "tiny"
# [paradigms.semb]

[paradigms.sasrec]                  # a model of item ids

[evaluation]
max_users = 2000                    # of each domain's test users, the same for every model
"""

_MERGES = """
[[merges]]                          # every pair of domains, evaluated on both
kind   = "cross_domain"
method = "linear"
weight = 0.5
"""

_STUDIES = """
[[studies]]                         # a table or figure of the paper: baselines, vectors, cross_domain, base_model,
kind   = "temporal"                 # temporal, recency or advise
scales = { from = -0.5, to = 2.0, step = 0.25 }
"""


def grid_text(found: Found, plan: Plan, file: Path) -> str:
    """The content of a grid file at `file`."""
    parts = [_HEAD.format(root=_comment(str(found.root)), name=toml_value(file.stem))]
    parts += [_line(key, value, note) for key, value, note in _data(found, plan, file)]
    tenths = "the last three tenths of the " + ("time" if plan.of_time else "interactions")
    dates = plan.calendar.as_dates()
    phases = "\n".join(f'{name:<8} = ["{start}", "{end}"]' for name, (start, end) in dates.items())
    parts.append(_PHASES.format(how=f"Phase1, phase2 and test are {tenths}.", phases=phases))
    parts.append(_TEXTS if found.has_texts else _NO_TEXTS)
    if found.has_texts:
        parts += [_MERGES] if len(found.domains) > 1 else []
        parts.append(_STUDIES)
    return "".join(parts)


def guesses(found: Found, plan: Plan) -> list[tuple[str, str]]:
    """What was guessed, as rows of a table."""
    rows = [("format", found.format), *((role, f"column {column}") for role, column in found.named.items())]
    if found.left_out:
        rows.append(("left out", f"{', '.join(found.left_out)}: rename them, so that they can name domains"))
    if not found.has_texts:
        rows.append(("item texts", "none: ids take the place of titles"))
    rows += [(phase.name, f"{format_time(phase.start)} to {format_time(phase.end)}") for phase in plan.calendar.phases]
    rows.append(("min_interactions", str(plan.min_interactions)))
    for domain, users, items, tested in zip(found.domains, plan.users, plan.items, plan.test_users, strict=True):
        rows.append((domain, f"{users:,} users, {items:,} items, {tested:,} test users"))
    return rows


def _data(found: Found, plan: Plan, file: Path) -> list[tuple[str, Any, str]]:
    """Key, value and comment of each line of [data]."""
    options = found.options
    lines: list[tuple[str, Any, str]] = [
        ("format", found.format, ""),
        ("root", _relative(found.root, file.resolve().parent), "relative to this file"),
        ("domains", list(found.domains), "(?)"),
    ]
    columns = options.columns.model_dump(exclude_none=True)
    if columns:
        lines.append(("columns", {key: _plain(value) for key, value in columns.items()}, "(?)"))
    keys = ("interactions", "items", "time_unit", "encoding")
    lines += [(key, getattr(options, key), "") for key in keys if getattr(options, key) is not None]
    lines.append(("min_interactions", plan.min_interactions, "of a user and of an item"))
    if max(plan.users) > _MOST_USERS:
        lines.append(
            ("max_users", _MOST_USERS, "a sample of each domain's users, for a quick start; remove it for all")
        )
    return lines


def _line(key: str, value: Any, note: str) -> str:
    text = f"{key:<7} = {toml_value(value)}"
    return f"{text:<35} # {note}\n" if note else f"{text}\n"


def _plain(value: Any) -> Any:
    return (value[0] if len(value) == 1 else list(value)) if isinstance(value, tuple) else value


def _relative(root: Path, folder: Path) -> str:
    """The root as the grid file may name it: relative where the two have a folder in common below the top."""
    try:
        relative = Path(os.path.relpath(root, folder)).as_posix()
    except ValueError:  # another drive
        return root.as_posix()
    return root.as_posix() if relative.startswith("../../../") else relative


def _comment(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
