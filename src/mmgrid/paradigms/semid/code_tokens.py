"""The tokens of a domain's codes: their names, their rows in the vocabulary, and what ties them to a codebook.

A checkpoint's `mmgrid.json` names its blocks of token rows (see `mmgrid.merging.BlockTable`). The entry of a domain's
block also names the domain, its tokens, the file of its codes, and a digest of codebook and token names, which that
file repeats: codes and rows that do not belong together are found out. Items are no part of the digest, so that new
ones can be given codes.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AddedToken, PreTrainedTokenizerBase

from mmgrid.paradigms.facts import FACTS_FILE, CheckpointError
from mmgrid.semantic_ids.item_codes import CODES_FILE, ItemCodes

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class CodeTokens:
    """The block of token rows of one domain's codes.

    Attributes:
        block: its name in merges. domain: empty in checkpoints of versions before 0.2.
        first: token id of the first code of the first level. shape: levels and codes per level.
        codebook: SHA-256 (hex) of the codebook's arrays; empty where the checkpoint does not say.
        file: of the codes, in the checkpoint's folder.
    """

    block: str
    domain: str
    first: int
    shape: tuple[int, int]
    codebook: str = ""
    file: str = CODES_FILE

    @classmethod
    def of(cls, block: str, domain: str, first: int, codes: ItemCodes, codebook: str) -> CodeTokens:
        """Those of a new checkpoint."""
        return cls(block, domain, first, (codes.levels, codes.codes_per_level), codebook)

    @property
    def stop(self) -> int:
        return self.first + self.shape[0] * self.shape[1]

    @property
    def names(self) -> list[str]:
        """One token string per code, level by level: `<garden/1a2b3c4d:a_7>` is code 7 of the first level."""
        levels, per_level = self.shape
        prefix = f"{self.domain}/{self.codebook[:8]}" if self.domain else self.block
        return [f"<{prefix}:{_level(level)}_{code}>" for level in range(levels) for code in range(per_level)]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of codebook and token names; empty where the codebook is not known."""
        if not self.codebook:
            return ""
        return hashlib.sha256(json.dumps([self.codebook, self.names]).encode()).hexdigest()

    def entry(self) -> dict[str, Any]:
        """The block's entry in `mmgrid.json`."""
        rows = {"name": self.block, "start": self.first, "stop": self.stop}
        if not self.codebook:
            return rows
        more = {"domain": self.domain, "codebook": self.codebook, "digest": self.digest}
        return rows | more | {"tokens": self.names, "files": [self.file]}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> tuple[CodeTokens, ItemCodes]:
        """The block of an entry of `mmgrid.json`, and the codes of the domain's items.

        Raises CheckpointError if the codes are missing, or belong to other token rows.
        """
        path = folder / (entry.get("files") or [CODES_FILE])[0]
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file: the checkpoint lacks the codes of its items")
        codes = ItemCodes.load(path)
        shape = codes.levels, codes.codes_per_level
        found = cls(entry["name"], entry.get("domain", ""), entry["start"], shape, entry.get("codebook", ""), path.name)
        written = entry.get("digest", "")
        if not codes.digest == found.digest == written or found.stop != entry["stop"]:
            raise CheckpointError(
                f"{path}: these codes belong to other token rows than block {found.block!r} of {folder / FACTS_FILE} "
                f"(digest {codes.digest[:8] or 'none'}, expected {written[:8] or 'none'}); "
                "put back the file that was saved with the checkpoint"
            )
        return found, codes

    def save_codes(self, codes: ItemCodes, folder: Path) -> None:
        """Write the codes next to the weights, with the digest that ties them to their token rows."""
        replace(codes, digest=self.digest).save(folder / self.file)


def _level(level: int) -> str:
    return _LETTERS[level] if level < len(_LETTERS) else f"l{level}"


def with_code_tokens(tokenizer: PreTrainedTokenizerBase, block: CodeTokens) -> PreTrainedTokenizerBase:
    """A tokenizer with the tokens of `block`, which have the ids of their rows.

    Rows between the tokenizer's last token and the block (a padded vocabulary has some) get fillers as names.
    """
    if not block.codebook or tokenizer.get_vocab().get(block.names[0]) == block.first:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    fillers = [f"<unused_{row}>" for row in range(len(tokenizer), block.first)]
    names = [*fillers, *block.names]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    if tokenizer.convert_tokens_to_ids(block.names[-1]) != block.stop - 1:
        raise ValueError(
            f"the tokenizer gives {block.names[-1]} another id than its row {block.stop - 1}: it has more tokens than "
            "the model has rows, or has tokens of these names already"
        )
    return tokenizer
