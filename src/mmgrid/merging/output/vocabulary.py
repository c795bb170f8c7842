"""Gives the output folder the tokenizer of a chosen vocabulary."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.cards import read_json
from mmgrid.files import write_json
from mmgrid.merging.models.companions import companions_in
from mmgrid.merging.models.settings import CONFIG_FILE
from mmgrid.merging.models.tokens import TOKENIZER_FILE, Vocabulary
from mmgrid.merging.plan.vocabulary import OneVocabulary

_OF_TOKENIZERS = (
    "tokenizer",
    "special_tokens_map",
    "added_tokens",
    "vocab",
    "merges",
    "spiece",
    "sentencepiece",
    "chat_template",
)


def use_vocabulary(vocabulary: OneVocabulary, companions: Path, folder: Path) -> None:
    """Write the tokenizer, and change the ids of tokens in the configs to those of the vocabulary.

    Args:
        companions: the folder that the configs were copied from.
        folder: the output folder.
    """
    if vocabulary.donor != companions:
        for path in companions_in(companions):
            if path.name.startswith(_OF_TOKENIZERS):
                (folder / path.name).unlink(missing_ok=True)
        for path in companions_in(vocabulary.donor):
            if path.name.startswith(_OF_TOKENIZERS):
                shutil.copyfile(path, folder / path.name)
    (folder / TOKENIZER_FILE).write_text(vocabulary.tokenizer, encoding="utf-8")
    before = Vocabulary.read(companions)
    moved = {} if before is None else _moved(before.ids, vocabulary.ids)
    for name in (CONFIG_FILE, "generation_config.json"):
        file = folder / name
        value = read_json(file)
        changed = _with_ids(value, moved)
        if changed != value:
            write_json(file, changed)


def _moved(before: Mapping[str, int], after: Mapping[str, int]) -> dict[int, int]:
    """Row → row, for tokens that have another one now."""
    return {row: after[token] for token, row in before.items() if after.get(token, row) != row}


def _with_ids(settings: Any, moved: Mapping[int, int]) -> Any:
    """The settings with other ids wherever they name tokens, such as `eos_token_id`."""
    if not isinstance(settings, dict):
        return settings

    def changed(key: str, value: Any) -> Any:
        if not key.endswith(("_token_id", "_token_ids")):
            return _with_ids(value, moved)
        if isinstance(value, list):
            return [moved.get(one, one) if isinstance(one, int) else one for one in value]
        return moved.get(value, value) if isinstance(value, int) else value

    return {key: changed(key, value) for key, value in settings.items()}
