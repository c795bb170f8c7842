"""The vocabulary of a model: which token each row of its embeddings stands for, by its `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgrid.files.foreign import MALFORMED
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.file_kinds import impostor

TOKENIZER_FILE = "tokenizer.json"
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one tokenizer.

    Attributes:
        path: its file.
        content: of the file.
        ids: token → id, added tokens included.
        added: token → its entry in `added_tokens`.
    """

    path: Path
    content: Mapping[str, Any]
    ids: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Vocabulary | None:
        """The vocabulary of a model's folder; None if it has no `tokenizer.json`.

        Raises:
            MergeError: the file is no tokenizer of the tokenizers library.
        """
        path = folder / TOKENIZER_FILE
        if not path.is_file():
            return None
        if problem := impostor(path):
            raise MergeError(f"{path}: {problem}")
        try:
            content = json.loads(path.read_bytes())
            words = content["model"]["vocab"]
            ids = dict(words) if isinstance(words, Mapping) else {entry[0]: row for row, entry in enumerate(words)}
            added = {entry["content"]: entry for entry in content.get("added_tokens") or []}
            ids |= {token: entry["id"] for token, entry in added.items()}
            _check_ids(ids)
        except MALFORMED as error:
            raise MergeError(f"{path}: is not a tokenizer of the tokenizers library ({error!r})") from error
        return cls(path, content, ids, added)

    def within(self, rows: int) -> Vocabulary:
        """Without the added tokens that a model of so many rows has no row for.

        Raises:
            MergeError: other tokens lie beyond the rows, so this is not the model's tokenizer.
        """
        beyond = {token for token, row in self.ids.items() if row >= rows}
        if beyond - self.added.keys():
            raise MergeError(
                f"{self.path}: has {len(self.ids)} tokens and the model {rows} rows; is it the model's own?"
            )
        if not beyond:
            return self
        kept = [entry for entry in self.content["added_tokens"] if entry["content"] not in beyond]
        return replace(
            self,
            content={**self.content, "added_tokens": kept},
            ids={token: row for token, row in self.ids.items() if token not in beyond},
            added={token: entry for token, entry in self.added.items() if token not in beyond},
        )

    def with_tokens(self, tokens: Mapping[str, Mapping[str, Any] | None]) -> Vocabulary:
        """With more added tokens behind the others, which get the next ids.

        Args:
            tokens: token → the entry of another tokenizer, for its flags, or None. Known ones are left as they are.

        Raises:
            MergeError: the ids have a gap, so the tokenizers library would give the new tokens ids of others.
        """
        if tokens.keys() <= self.ids.keys():
            return self
        ids, added = dict(self.ids), dict(self.added)
        words = self.content["model"]["vocab"]
        row = max((len(words), *(entry["id"] + 1 for entry in added.values())))
        if row <= max(ids.values(), default=-1):
            raise MergeError(
                f"{self.path}: its ids have a gap: {len(ids)} tokens, the last with the id {max(ids.values())}. Tokens cannot "
                "be added behind them; choose another vocabulary, or number its tokens without a gap"
            )
        for token, other in tokens.items():
            if token not in ids:
                ids[token] = row
                flags = {flag: (other or {}).get(flag, usual) for flag, usual in _FLAGS.items()}
                added[token] = {"id": row, "content": token, **flags}
                row += 1
        content = {**self.content, "added_tokens": sorted(added.values(), key=lambda entry: entry["id"])}
        return replace(self, content=content, ids=ids, added=added)


def _check_ids(ids: Mapping[Any, Any]) -> None:
    """Raises ValueError if a token is no text, or its id no row."""
    for token, row in ids.items():
        if not isinstance(token, str) or type(row) is not int or not 0 <= row < 2**31:
            raise ValueError(f"the token {token!r} has the id {row!r}")
