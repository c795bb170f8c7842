"""The tokens of a domain's codes: their names, their rows in the vocabulary, and what ties them to a codebook.

A checkpoint's `mmgrid.json` declares its blocks of token rows (see `mmgrid.merging.BlockTable`). The entry of a
domain's block also names the domain, its tokens, the file of its codes, and a digest of codebook and token names. The
file of codes repeats the digest, so that codes with the wrong token rows are detected. The digest does not cover the
items, so new items can get codes.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AddedToken, PreTrainedTokenizerBase

from mmgrid.backbone.load import BackboneError
from mmgrid.paradigms.facts import FACTS_FILE, CheckpointError
from mmgrid.semantic_ids.item_codes import CODES_FILE, ItemCodes

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class CodeTokens:
    """The block of token rows of one domain's codes.

    Attributes:
        block: its name in merges.
        first: token id of the first code of the first level. shape: levels and codes per level.
        domain, names, digest: the domain, one token string per code, level by level, and the SHA-256 (hex) of codebook
            and names; empty in older checkpoints.
    """

    block: str
    first: int
    shape: tuple[int, int]
    domain: str = ""
    names: tuple[str, ...] = ()
    digest: str = ""

    @classmethod
    def of(cls, block: str, domain: str, first: int, codes: ItemCodes, codebook: str) -> CodeTokens:
        """The code tokens of a new checkpoint; codebook: SHA-256 (hex) of the codebook's arrays.

        `<garden/1a2b3c4d:b_7>` is code 7 of the second level in the domain `garden`; `1a2b3c4d` begins the codebook's
        SHA-256.
        """
        shape = codes.levels, codes.codes_per_level
        prefix = f"{domain}/{codebook[:8]}"
        names = [f"<{prefix}:{level_name(level)}_{code}>" for level in range(shape[0]) for code in range(shape[1])]
        return cls(block, first, shape, domain, tuple(names), token_digest(codebook, names))

    @property
    def stop(self) -> int:
        return self.first + (len(self.names) or self.shape[0] * self.shape[1])

    @property
    def table(self) -> np.ndarray:
        """Token id of each code: int64 [L, C]; -1 where no token stands for a code, as in models from elsewhere."""
        levels, per_level = self.shape
        if not self.names:
            return self.first + np.arange(levels * per_level).reshape(levels, per_level)
        row_of = {name.rpartition(":")[2].rstrip(">"): self.first + row for row, name in enumerate(self.names)}
        found = [row_of.get(f"{level_name(level)}_{code}", -1) for level in range(levels) for code in range(per_level)]
        return np.array(found, np.int64).reshape(levels, per_level)

    def entry(self) -> dict[str, Any]:
        """The block's entry in `mmgrid.json`."""
        rows = {"name": self.block, "start": self.first, "stop": self.stop}
        if not self.digest:
            return rows
        return rows | {"domain": self.domain, "digest": self.digest, "tokens": list(self.names), "files": [CODES_FILE]}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> tuple[CodeTokens, ItemCodes]:
        """The block that an entry of `mmgrid.json` declares, and the codes of the domain's items.

        Raises CheckpointError if the codes are missing or belong to other token rows.
        """
        path = codes_file(folder, entry)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file: the checkpoint lacks the codes of its items")
        codes = ItemCodes.load(path)
        shape = codes.levels, codes.codes_per_level
        declared = entry.get("domain", ""), tuple(entry.get("tokens", ())), entry.get("digest", "")
        tokens = cls(entry["name"], entry["start"], shape, *declared)
        if codes.digest != tokens.digest or tokens.stop != entry["stop"]:
            raise CheckpointError(
                f"{path}: these codes belong to other token rows than block {tokens.block!r} of {folder / FACTS_FILE} "
                f"(digest {codes.digest[:8] or 'none'}, expected {tokens.digest[:8] or 'none'}); "
                "put back the file that was saved with the checkpoint"
            )
        return tokens, codes

    def save_codes(self, codes: ItemCodes, place: Path) -> None:
        """Write the codes next to the weights, with the digest that ties them to their token rows.

        place: as of `ItemCodes.save`; a merge of several domains has a file for each.
        """
        replace(codes, digest=self.digest).save(place)


def codes_file(folder: Path, entry: Mapping[str, Any]) -> Path:
    """The file of the codes whose block an entry of `mmgrid.json` declares."""
    return folder / (entry.get("files") or [CODES_FILE])[0]


def level_name(level: int) -> str:
    """The letter of a level, counted from 0."""
    return _LETTERS[level] if level < len(_LETTERS) else f"l{level}"


def with_code_tokens(tokenizer: PreTrainedTokenizerBase, tokens: CodeTokens) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer with the code tokens, each with the id of its row.

    Rows between the tokenizer's last token and the block, as a padded vocabulary has, get filler names.

    Raises BackboneError (a ValueError) if the ids do not fit.
    """
    if not tokens.names or tokenizer.get_vocab().get(tokens.names[0]) == tokens.first:
        return tokenizer
    tokenizer, had = copy.deepcopy(tokenizer), len(tokenizer)
    fillers = [f"<unused_{row}>" for row in range(len(tokenizer), tokens.first)]
    added = [*fillers, *tokens.names]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in added])
    if tokenizer.convert_tokens_to_ids(tokens.names[-1]) != tokens.stop - 1:
        reason = (
            "the tokenizer has tokens of these names already"
            if tokens.first >= had
            else f"the tokenizer has {had} tokens, and the model rows for {tokens.first}; put its tokenizer_config.json "
            "beside its tokenizer.json if it is missing, or resize the model's embeddings"
        )
        raise BackboneError(f"code tokens such as {tokens.names[0]} cannot be added: {reason}")
    return tokenizer


def token_digest(codebook: str, names: Sequence[str]) -> str:
    """What ties token rows to a codebook: SHA-256 (hex) of the codebook's own SHA-256 and the tokens' names."""
    return hashlib.sha256(json.dumps([codebook, list(names)]).encode()).hexdigest()


def entry_of(rows: list[dict[str, Any]], domain: str | None, folder: Path) -> dict[str, Any]:
    """The block entry of a domain; without a domain, the only entry."""
    entries = [row for row in rows if row["name"] != "backbone"]
    domains = " and ".join(row.get("domain") or row["name"] for row in entries) or "no domain"
    # Older checkpoints have one block, which names no domain.
    fitting = [row for row in entries if domain in (None, row.get("domain")) or not row.get("domain")]
    if not fitting:
        raise CheckpointError(f"{folder}: holds no codes of {domain}, only of {domains}")
    if len(fitting) > 1:
        raise CheckpointError(f"{folder}: holds the codes of {domains}; say which domain to recommend for (--domain)")
    return fitting[0]
