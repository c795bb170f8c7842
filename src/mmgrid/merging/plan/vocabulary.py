"""The vocabulary that a merge is to have, as a recipe chooses it, and what has become of the rows.

The meaning is that of mergekit's `tokenizer_source` (https://github.com/arcee-ai/mergekit, docs/tokenizer.md): a token
that a model lacks has, in that model, the row of the base; else the mean of the rows of the models that have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmgrid.merging.errors import listing
from mmgrid.merging.models.token_files import token_files
from mmgrid.merging.models.tokens import Vocabulary

BASE_VOCABULARY, UNION, ZERO = "base", "union", "zero"


class TokenRow(BaseModel):
    """Where the row of a token comes from.

    Attributes:
        source: name of a source, "base", or "zero".
        token: the token of that source whose row is taken. Default: the token itself.
        row: the row of that source, instead of a token.
        force: also in models that have the token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = None
    token: str | None = None
    row: Annotated[int, Field(ge=0)] | None = None
    force: bool = False


class VocabularyChoice(BaseModel):
    """The vocabulary of the result.

    Attributes:
        source: "base"; "union", the base's and behind it the tokens that only others have; or the name of a source.
        base: the model whose rows the others have for tokens that they lack. Default: the recipe's base.
        tokens: token → where its row comes from; unknown tokens are added.
        pad_to_multiple_of: rows are added up to a multiple of this; they have the mean of the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = UNION
    base: str | None = None
    tokens: dict[str, TokenRow] = {}
    pad_to_multiple_of: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class OneVocabulary:
    """What the rows of a merge stand for.

    Attributes:
        rows: number of rows of the result.
        ids: token → row of the result.
        tokenizer: the text of its `tokenizer.json`.
        donor: the folder whose other tokenizer files it has.
        made_up: model → token → where its row comes from, for tokens that the model lacks.
        left_out: model → tokens whose rows are not in the result.
        unnamed: model → rows that no token stands for, and that are not in the result.
        words: words of other tokenizers that have become added tokens.
        not_arranged: model → other tensors with as many rows as the embeddings.
        assumed: notes on models whose tokenizer is not known.
        in_mergekits_order: whether mergekit would give every row the same number.
    """

    rows: int
    ids: Mapping[str, int]
    tokenizer: str
    donor: Path
    made_up: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unnamed: Mapping[str, int] = field(default_factory=dict)
    words: Sequence[str] = ()
    not_arranged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    in_mergekits_order: bool = True

    def as_json(self) -> dict[str, Any]:
        """For the record: every row that is made up or left out."""
        made = {model: dict(tokens) for model, tokens in self.made_up.items()}
        left = {model: list(tokens) for model, tokens in self.left_out.items()}
        return {"rows": self.rows, "made_up": made, "left_out": left, "unnamed_rows": dict(self.unnamed)}

    def notes(self) -> list[str]:
        texts = list(self.assumed)
        for model, tokens in self.made_up.items():
            by_origin: dict[str, list[str]] = {}
            for token, origin in tokens.items():
                by_origin.setdefault(origin, []).append(token)
            for origin, own in by_origin.items():
                texts.append(f"vocabulary: {model} lacks {_count(own)}; the row is {origin}: {listing(own)}")
        for model, tokens in self.left_out.items():
            texts.append(f"vocabulary: {_count(tokens)} of {model} left out: {listing(tokens)}")
        for model, rows in self.unnamed.items():
            texts.append(f"vocabulary: {rows} rows of {model} left out, which no token of its tokenizer stands for")
        if self.words:
            texts.append(
                f"vocabulary: {_count(self.words)} of other tokenizers are added ones of the result, which are cut out of a "
                f"text before all others, so texts may be divided otherwise: {listing(self.words)}"
            )
        for model, tensors in self.not_arranged.items():
            texts.append(
                f"vocabulary: {model}: {listing(tensors)}: as long as the embeddings, but by no known name, and merged as "
                "it is"
            )
        return texts + self._unwritten()

    def _unwritten(self) -> list[str]:
        """A note on each file of the tokenizer that lists all tokens, and is copied without the new ones."""
        own = Vocabulary.read(self.donor)
        new = [] if own is None else [token for token in self.ids if token not in own.ids]
        files = [name for name in token_files(self.donor) if name.endswith((".tiktoken", "tekken.json")) and new]
        return [f"vocabulary: {name} is copied as it is, and lacks {_count(new)}: {listing(new)}" for name in files]


def _count(tokens: Sequence[str]) -> str:
    return f"{len(tokens)} token{'' if len(tokens) == 1 else 's'}"
