"""Gives the output folder the tokenizer of a chosen vocabulary."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmgrid.cards import read_json
from mmgrid.files import write_json
from mmgrid.merging.models.companions import companions_below, companions_in
from mmgrid.merging.models.token_files import TEMPLATES, is_of_tokenizer
from mmgrid.merging.models.tokens import Vocabulary
from mmgrid.merging.output.added_tokens import write_tokenizer
from mmgrid.merging.plan.vocabulary import OneVocabulary

_NAMES_TOKENS = re.compile(r"(?:_token_ids?|_token_index|suppress_tokens|_words_ids)$")
_PAIRS = "forced_decoder_ids"  # each of a place and a token


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
    for file in companions_in(folder):
        if file.suffix != ".json" or is_of_tokenizer(file.relative_to(folder)):
            continue
        value, donor = read_json(file), read_json(vocabulary.donor / file.name)
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
        try:
            if key == _PAIRS and isinstance(value, list) and all(isinstance(pair, list) for pair in value):
                return [[*pair[:1], *(_moved(row, moved) for row in pair[1:])] for pair in value]
            return _moved(value, moved) if _NAMES_TOKENS.search(key) else _with_ids(value, others.get(key), moved)
        except LookupError:
            return others.get(key)

    return {key: changed(key, value) for key, value in settings.items()}


def _moved(value: Any, moved: Callable[[int], int | None]) -> Any:
    """An id, or lists of ids, as they are now.

    Raises:
        LookupError: its token is left out.
    """
    if isinstance(value, list):
        return [_moved(each, moved) for each in value]
    if type(value) is not int:
        return value
    if (row := moved(value)) is None:
        raise LookupError(value)
    return row
