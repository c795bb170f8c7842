"""The texts that represent items in an embedding space: titles, with or without descriptions."""

from __future__ import annotations

from mmgrid.data import Items
from mmgrid.paradigms.shared.prompts import one_line


def item_texts(items: Items, *, with_descriptions: bool = False) -> list[str]:
    """One text per item row: its title on one line, or title and description as they are."""
    if not with_descriptions:
        return [one_line(title) for title in items.titles]
    return [f"{title} {text}".strip() for title, text in zip(items.titles, items.descriptions, strict=True)]
