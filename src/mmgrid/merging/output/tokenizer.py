"""Fits the `tokenizer.json` of a merge to its token blocks, so that each token's id is its row.

The `tokenizers` library numbers added tokens one after the other when it loads the file, whatever ids are written
there. Added tokens must therefore follow the vocabulary without a gap.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgrid.files.foreign import MALFORMED
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.token_blocks import BACKBONE, BlockTable
from mmgrid.merging.models.tokens import TOKENIZER_FILE
from mmgrid.merging.plan.block_layout import OutputBlock, rows_of

_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def fitted_tokenizer(
    companions: Path,
    blocks: Sequence[OutputBlock],
    tables: Mapping[str, BlockTable],
    folders: Mapping[str, Path],
    first: str,
) -> str | None:
    """The text of the result's `tokenizer.json`; None if the file of the companions is to be copied unchanged.

    The tokens of all blocks in `tables` are removed, then those of the result's blocks are added at their rows. Ids
    between the vocabulary and the first block are filled with the added tokens that the first source has there.

    Args:
        companions: the folder whose tokenizer is copied.
        blocks: the token blocks of the result.
        tables: name of a model → its token blocks.
        folders: name of the source → the folder that holds its tokenizer.
        first: the first source.

    Raises:
        MergeError: a token cannot get its row as id.
    """
    path = companions / TOKENIZER_FILE
    named = [block for table in tables.values() for block in table.blocks if block.name != BACKBONE]
    known = {token for block in named for token in block.tokens}
    if not known or not path.is_file():
        return None
    tokenizer = _read(path)
    vocabulary = tokenizer["model"]["vocab"]
    words = set(vocabulary) if isinstance(vocabulary, dict) else {word for word, _ in vocabulary}
    before = tokenizer.get("added_tokens") or []
    rows = rows_of(blocks)
    added = {token["id"]: token for token in before if token["content"] not in known and token["id"] < rows}
    placed = _placed(blocks, words, folders)
    contents = {token["content"] for token in placed.values()}
    added = {row: token for row, token in added.items() if token["content"] not in contents}
    if placed:
        backbone = blocks[0].block
        if backbone.name != BACKBONE:
            raise MergeError(
                f"the first block of the result is {backbone.name!r}; a tokenizer with added tokens needs the block "
                f"{BACKBONE!r} first: keep or merge it"
            )
        fillers = _added_tokens(folders[first])
        for row in range(len(words), backbone.stop):
            if row in fillers and fillers[row]["content"] not in known:
                added.setdefault(row, fillers[row])
    after = [token for _, token in sorted((added | placed).items())]
    if after == before:
        return None
    _check_contiguous(range(len(words), after[-1]["id"] + 1 if after else 0), added | placed, path)
    return json.dumps({**tokenizer, "added_tokens": after}, ensure_ascii=False, indent=2)


def _placed(blocks: Sequence[OutputBlock], words: set[str], folders: Mapping[str, Path]) -> dict[int, dict[str, Any]]:
    """Row → added token, for the tokens of all blocks."""
    placed: dict[int, dict[str, Any]] = {}
    for laid in blocks:
        if laid.block.name == BACKBONE or not laid.block.tokens:
            continue
        own = {token["content"]: token for token in _added_tokens(folders[laid.owner]).values()}
        for row, content in enumerate(laid.block.tokens, laid.block.start):
            if content in words:
                raise MergeError(
                    f"token {content!r} of block {laid.block.name!r} is also in the vocabulary of the tokenizer, so it "
                    f"cannot have the id {row}; give the block other tokens"
                )
            placed[row] = {"id": row, "content": content} | {
                flag: own.get(content, _FLAGS).get(flag, default) for flag, default in _FLAGS.items()
            }
    return placed


def _check_contiguous(rows: range, tokens: Mapping[int, Any], path: Path) -> None:
    missing = next((row for row in rows if row not in tokens), None)
    if missing is not None:
        raise MergeError(
            f"{path}: no token has the id {missing}, so the tokens behind it could not have their rows as ids; the "
            "first source's tokenizer, or the block of this row in mmgrid.json, must name a token for it"
        )


def _added_tokens(folder: Path) -> dict[int, dict[str, Any]]:
    """id → added token, of the tokenizer in a folder; empty if there is none."""
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        return {}
    return {token["id"]: token for token in _read(path).get("added_tokens") or []}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
        value["model"]["vocab"]
        if not all({"id", "content"} <= token.keys() for token in value.get("added_tokens") or []):
            raise KeyError("id, content")
    except MALFORMED as error:
        raise MergeError(f"{path}: is not a tokenizer of the tokenizers library ({error!r})") from error
    return value
