"""Prints the cells that wait for one that has failed: a line each, and the first few of many."""

from collections.abc import Iterable

MOST_LINES = 8


def say_blocked(culprit: str, names: Iterable[str]) -> None:
    """Print the cells that `culprit` blocks."""
    from mmgrid.cli import draw

    names = list(names)
    draw.say(("blocked", "yellow"), f" by {culprit}: {len(names):,} {'cell' if len(names) == 1 else 'cells'}")
    # One line more costs no more than to say that there is one more.
    shown = names if len(names) <= MOST_LINES + 1 else names[:MOST_LINES]
    for name in shown:
        draw.say(f"  {name}")
    if len(names) > len(shown):
        draw.say(f"  and {len(names) - len(shown):,} more; `mmgrid plan GRID` shows all")
