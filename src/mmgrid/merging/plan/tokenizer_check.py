"""Compares the tokenizers of models whose token rows are merged as they are: the same row may mean different tokens."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.tokens import TOKENIZER_FILE, Vocabulary


def check_tokenizers(models: Mapping[str, Path], *, allow: bool = False) -> list[str]:
    """Compare the tokenizers of models whose rows are merged as they are.

    Args:
        models: name → folder; models without a `tokenizer.json` are left out.
        allow: note differences that change the meaning of rows, too.

    Returns:
        A note for each difference.

    Raises:
        MergeError: the same row stands for different tokens.
    """
    files = {name: file for name, folder in models.items() if (file := folder / TOKENIZER_FILE).is_file()}
    if len({file.read_bytes() for file in files.values()}) < 2:
        return []
    found: dict[str, Vocabulary] = {}
    for name, file in files.items():
        with contextlib.suppress(MergeError):  # tokenizers of another library cannot be compared
            words = Vocabulary.read(file.parent)
            found |= {} if words is None else {name: words}
    if len(found) < 2:
        return []
    first, *others = found
    notes = []
    for other in others:
        one, two = found[first].ids, found[other].ids
        moved = [token for token in one.keys() & two.keys() if one[token] != two[token]]
        here, there = ({row: token for token, row in ids.items()} for ids in (one, two))
        renamed = [here[row] for row in here.keys() & there.keys() if here[row] != there[row]]
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
            notes.append(text)
        elif one.keys() != two.keys():
            more = [(first, one.keys() - two.keys(), other), (other, two.keys() - one.keys(), first)]
            notes += [
                f"tokenizer of {name}: has {len(tokens)} token{'' if len(tokens) == 1 else 's'} that {lacking} lacks: "
                f"{listing(map(repr, tokens), 3)}"
                for name, tokens, lacking in more
                if tokens
            ]
    return notes
