"""Compares the tokenizers of models whose token rows are merged as they are: the same row may mean different tokens."""

from collections.abc import Mapping
from pathlib import Path

from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.token_files import content_of_tokens, token_files, tokens_of


def check_tokenizers(models: Mapping[str, Path], *, allow: bool = False) -> list[str]:
    """Compare the tokenizers of models whose rows are merged as they are.

    Args:
        models: name → folder; models without a tokenizer are left out.
        allow: note differences that change the meaning of rows, too.

    Returns:
        A note for each difference.

    Raises:
        MergeError: the same row stands for different tokens.
    """
    files = {name: token_files(folder) for name, folder in models.items()}
    names, notes = list(models), list[str]()
    for number, other in enumerate(names):
        both = ((first, file) for first in names[:number] for file in files[first] if file in files[other])
        first, file = next(both, (None, ""))
        if first is not None:
            notes += _compared((first, models[first]), (other, models[other]), file, allow=allow)
        elif files[other] and (known := [name for name in names[:number] if files[name]]):
            here, there = files[known[0]][0], files[other][0]
            notes.append(
                f"tokenizer of {other}: has {there}, and {known[0]} has {here}; their tokens were not compared"
            )
    return notes


def _compared(one: tuple[str, Path], two: tuple[str, Path], file: str, *, allow: bool) -> list[str]:
    """Compare the tokens of two models, by name and folder, by a file that both have."""
    (first, here), (other, there) = one, two
    if content_of_tokens(here, file) == content_of_tokens(there, file):
        return []
    ids, own = tokens_of(here, file), tokens_of(there, file)
    if ids is None or own is None:
        unknown = first if ids is None else other
        return [f"tokenizer of {unknown}: {file} cannot be read, so its tokens were not compared with others"]
    moved = [token for token in ids.keys() & own.keys() if ids[token] != own[token]]
    rows, own_rows = ({row: token for token, row in held.items()} for held in (ids, own))
    renamed = [rows[row] for row in rows.keys() & own_rows.keys() if rows[row] != own_rows[row]]
    if moved or renamed:
        text = (
            f"tokenizer of {other}: {len(moved)} tokens have other rows than in {first}"
            if moved
            else f"tokenizer of {other}: {len(renamed)} rows stand for other tokens than in {first}"
        ) + f" ({listing(map(repr, moved or renamed), 3)})"
        if not allow:
            raise MergeError(
                f"{text}. Choose one vocabulary, and rows are arranged by their tokens: vocabulary: base, union or a "
                "source's name (--vocabulary); or allow it with --allow-config-mismatch"
            )
        return [text]
    more = [(first, ids.keys() - own.keys(), other), (other, own.keys() - ids.keys(), first)]
    return [
        f"tokenizer of {name}: has {len(tokens)} token{'' if len(tokens) == 1 else 's'} that {lacking} lacks: "
        f"{listing(map(repr, tokens), 3)}"
        for name, tokens, lacking in more
        if tokens
    ]
