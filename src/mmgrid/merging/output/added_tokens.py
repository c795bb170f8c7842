"""Writes a changed `tokenizer.json`, and the same added tokens to the files beside it that also list them.

transformers takes the tokens of `added_tokens_decoder` in `tokenizer_config.json` in place of those of `tokenizer.json`, and
older libraries those of `added_tokens.json`: a token that is missing there would not be known, or have another id than its row.
"""

import json
from pathlib import Path
from typing import Any

from mmgrid.cards import read_json
from mmgrid.files import write_json
from mmgrid.merging.models.tokens import TOKENIZER_FILE

_CONFIG, _DECODER, _LIST = "tokenizer_config.json", "added_tokens_decoder", "added_tokens.json"
_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


def write_tokenizer(folder: Path, text: str) -> None:
    """Write the tokenizer of a folder, in which the other files of the tokenizer already are."""
    (folder / TOKENIZER_FILE).write_text(text, encoding="utf-8")
    content = json.loads(text)
    added = sorted(content.get("added_tokens") or [], key=lambda entry: entry["id"])
    settings = read_json(folder / _CONFIG)
    if _DECODER in settings:
        _rewrite(
            folder / _CONFIG, settings, settings | {_DECODER: {str(entry["id"]): _flags(entry) for entry in added}}
        )
    if (folder / _LIST).is_file():
        vocabulary = content["model"]["vocab"]
        words = set(vocabulary) if isinstance(vocabulary, dict) else {word for word, _ in vocabulary}
        listed = {entry["content"]: entry["id"] for entry in added if entry["content"] not in words}
        _rewrite(folder / _LIST, read_json(folder / _LIST), listed)


def _flags(entry: dict[str, Any]) -> dict[str, Any]:
    return {"content": entry["content"]} | {flag: bool(entry.get(flag, False)) for flag in _FLAGS}


def _rewrite(file: Path, before: Any, after: Any) -> None:
    if before != after:
        file.unlink()
        write_json(file, after)
