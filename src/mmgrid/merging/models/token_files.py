"""The tokens of a model by the files of its tokenizer, of whichever library: which token each row stands for.

Read are `tokenizer.json` (tokenizers), `vocab.json` and `vocab.txt`, the models of SentencePiece, `tekken.json`
(mistral-common) and tiktoken's ranks; beside the older ones `added_tokens.json` and the added tokens of
`tokenizer_config.json` count, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from mmgrid.cards import read_json
from mmgrid.files.foreign import MALFORMED
from mmgrid.merging.models.tokens import TOKENIZER_FILE, Vocabulary

_TEKKEN = "tekken.json"
_NAMES = (TOKENIZER_FILE, _TEKKEN, "vocab.json", "vocab.txt")
_SUFFIXES = (".model", ".spm", ".tiktoken")
_ADDED = ("added_tokens.json", "tokenizer_config.json")  # beside files of older tokenizers
_OTHER_STARTS = ("tokenizer", "special_tokens_map", "added_tokens", "merges", "spiece", "normalizer", "chat_template")
_OTHER_SUFFIXES = (".codes",)  # the merges of older tokenizers
CHAT_TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
"""The folder of a model's further chat templates."""


def token_files(folder: Path) -> list[str]:
    """The names of the files that say which token a row stands for, the most telling one first."""
    if not folder.is_dir():
        return []
    others = sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    return [name for name in _NAMES if (folder / name).is_file()] + others


def is_of_tokenizer(path: PurePath) -> bool:
    """Whether a file belongs to the tokenizer, chat templates included, by its path in the model's folder."""
    if path.parent != PurePath():
        return path.parts[0] == TEMPLATES
    name = path.name
    return (
        name in _NAMES
        or path.suffix in (*_SUFFIXES, *_OTHER_SUFFIXES)
        or name.startswith(_OTHER_STARTS)
        or "vocab" in name  # `target_vocab.json`
    )


def content_of_tokens(folder: Path, name: str) -> tuple[bytes, ...]:
    """What one of these files says, with those that add tokens to it: equal contents have equal tokens."""
    more = () if name in (TOKENIZER_FILE, _TEKKEN) else _ADDED
    return tuple(path.read_bytes() if path.is_file() else b"" for path in (folder / one for one in (name, *more)))


def tokens_of(folder: Path, name: str) -> dict[str, int] | None:
    """Token → row, by one of these files; None if it cannot be read. Bytes that are no text have names of their own."""
    file = folder / name
    try:
        if name == TOKENIZER_FILE:
            found = Vocabulary.read(folder)
            return None if found is None else dict(found.ids)
        if name == _TEKKEN:
            return _of_tekken(json.loads(file.read_bytes()))
        if name == "vocab.txt":
            words = {
                word: row for row, word in enumerate(file.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
            }
        elif name == "vocab.json":
            words = json.loads(file.read_bytes())
        else:
            words = _of_pieces(file.read_bytes())
        return {token: int(row) for token, row in (words | _added(folder)).items()}
    except (OSError, *MALFORMED):
        return None


def _added(folder: Path) -> dict[str, int]:
    told = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    return {entry["content"]: int(row) for row, entry in told.items()} | read_json(folder / "added_tokens.json")


def _of_tekken(content: Mapping[str, Any]) -> dict[str, int]:
    special = content.get("special_tokens") or []
    before = int(content.get("config", {}).get("default_num_special_tokens") or len(special))
    words = {str(entry["token_bytes"]): int(entry["rank"]) + before for entry in content["vocab"]}
    return words | {str(entry["token_str"]): int(entry["rank"]) for entry in special}


def _of_pieces(content: bytes) -> dict[str, int]:
    """Tokens of tiktoken (lines of a base64 token and its rank), or of SentencePiece (the first field of its message)."""
    first = content.split(b"\n", 1)[0].split()
    if len(first) == 2 and first[1].isdigit():
        pairs = (line.split() for line in content.splitlines() if line)
        return {token.decode(): int(rank) for token, rank in pairs}
    pieces = [dict(_fields(value)) for number, value in _fields(content) if number == 1]
    found = {piece[1].decode(): row for row, piece in enumerate(pieces)}
    if not found:
        raise ValueError("no pieces")
    return found


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The numbers and bytes of the fields of a protocol buffer.

    Source: https://protobuf.dev/programming-guides/encoding
    """
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while place < len(message):
        kind = number()
        start = place
        if kind & 7 == 0:
            number()
        elif kind & 7 == 2:
            length = number()
            start, place = place, place + length
        else:
            place += {1: 8, 5: 4}[kind & 7]
        if place > len(message):
            raise ValueError("cut")
        yield kind >> 3, message[start:place]
