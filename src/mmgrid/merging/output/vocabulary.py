"""Gives the output folder the tokenizer of a chosen vocabulary."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmgrid.cards import read_json
from mmgrid.files import write_json
from mmgrid.merging.models.companions import companions_below, companions_in
from mmgrid.merging.models.settings import CONFIG_FILE
from mmgrid.merging.models.token_files import TEMPLATES, is_of_tokenizer
from mmgrid.merging.models.tokens import Vocabulary
from mmgrid.merging.output.added_tokens import write_tokenizer
from mmgrid.merging.plan.vocabulary import OneVocabulary

_NAMES_TOKENS = re.compile(r"(?:_token_ids?|_token_index|suppress_tokens)$")


def use_vocabulary(vocabulary: OneVocabulary, companions: Path, folder: Path) -> None:
    """Write the tokenizer, and change the ids of tokens in the configs to those of the vocabulary.

    A setting whose token is left out gets the value of the model that the tokenizer comes from.

    Args:
        companions: the folder that the configs were copied from.
        folder: the output folder.
    """
    if vocabulary.donor != companions:
        for path in _of_tokenizer(companions):
            (folder / path).unlink(missing_ok=True)
        shutil.rmtree(folder / TEMPLATES, ignore_errors=True)
        for path in _of_tokenizer(vocabulary.donor):
            (folder / path).parent.mkdir(exist_ok=True)
            shutil.copyfile(vocabulary.donor / path, folder / path)
    write_tokenizer(folder, vocabulary.tokenizer)
    before = Vocabulary.read(companions)
    if before is None:
        return
    tokens = {row: token for token, row in before.ids.items()}
    for name in (CONFIG_FILE, "generation_config.json"):
        file = folder / name
        value, donor = read_json(file), read_json(vocabulary.donor / name)
        changed = _with_ids(
            value, donor, lambda row: vocabulary.ids.get(tokens.get(row, ""), None if row in tokens else row)
        )
        if changed != value:
            write_json(file, changed)


def _of_tokenizer(model: Path) -> list[Path]:
    """The tokenizer's files of a model, by their paths in its folder."""
    paths = [path.relative_to(model) for path in (*companions_in(model), *companions_below(model))]
    return [path for path in paths if is_of_tokenizer(path)]


def _with_ids(settings: Any, donor: Any, moved: Callable[[int], int | None]) -> Any:
    """The settings with other ids wherever they name tokens, such as `eos_token_id`.

    Args:
        donor: the same settings of the model whose tokenizer the result has, for tokens that are left out.
        moved: id → its id now; None for a token that is left out.
    """
    if not isinstance(settings, dict):
        return settings
    others = donor if isinstance(donor, dict) else {}

    def changed(key: str, value: Any) -> Any:
        if not _NAMES_TOKENS.search(key):
            return _with_ids(value, others.get(key), moved)
        rows = value if isinstance(value, list) else [value]
        found = [moved(row) if type(row) is int else row for row in rows]
        if any(now is None and row is not None for row, now in zip(rows, found, strict=True)):
            return others.get(key)
        return found if isinstance(value, list) else found[0]

    return {key: changed(key, value) for key, value in settings.items()}
