"""The files that accompany the weights: config, tokenizer, and the files of token blocks."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgrid.cards import read_json
from mmgrid.files import write_json
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.companions import companions_below, companions_in, is_weights
from mmgrid.merging.models.quantisation import DECLARING_FILES, without_declaration
from mmgrid.merging.models.settings import CONFIG_FILE, TIED, VOCABULARY_SIZE, embeddings_tied, text_part
from mmgrid.merging.models.stack import StackedSource
from mmgrid.merging.models.token_files import CHAT_TEMPLATE
from mmgrid.merging.output.stacked_config import with_stack
from mmgrid.merging.plan.block_files import BlockFile


def copy_companions(
    source: Path,
    folder: Path,
    dtype: str | None,
    *,
    vocabulary: int | None,
    tied: bool | None,
    quantised: bool,
    stack: StackedSource | None,
    arranged: bool,
    written: Sequence[str] = (),
) -> None:
    """Copy config, tokenizer and generation files from a model's folder; not the files of its token blocks.

    Args:
        source: the model's folder, or a weight file, which has no companions.
        folder: the folder to copy them to.
        dtype: the type of all merged tensors, written to the config, because loading would otherwise round the weights
            to the type named there. None if they have several.
        vocabulary: number of token rows of the result, if they may be others than the model's.
        tied: whether the head of the result is its embeddings; None if it has no head, or nothing says so.
        quantised: whether the result holds 8-bit codes; otherwise its config declares none.
        stack: the model, if its layers are stacked.
        arranged: whether the token rows are those of a chosen vocabulary, so that the config must name their number.
        written: folders of modules whose weights are merged, and not copied.
    """
    if not source.is_dir():
        return
    for path in companions_in(source):
        if quantised or path.name not in DECLARING_FILES:
            shutil.copyfile(path, folder / path.name)
    for path in companions_below(source):
        if is_weights(path) and path.parent.name in written:
            continue
        place = folder / path.relative_to(source)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    config = folder / CONFIG_FILE
    if config.exists():
        value = read_json(config)
        changed = value if dtype is None else _with_dtype(value, dtype)
        if vocabulary is not None:
            changed = _with_value(changed, VOCABULARY_SIZE, vocabulary)
            if arranged and VOCABULARY_SIZE not in text_part(changed):
                text_part(changed)[VOCABULARY_SIZE] = vocabulary
        if tied is not None and embeddings_tied(value) is not tied:
            changed = {TIED: tied} | _with_value(changed, TIED, tied)
        if not quantised:
            changed = without_declaration(changed)
        if stack is not None:
            layers = {
                place: [(model.companions, layer) for model, layer in origins]
                for place, origins in stack.origins.items()
            }
            changed = with_stack(changed, layers, stack.counts)
        if changed != value:
            config.unlink()
            write_json(config, changed)


def write_chat_template(folder: Path, template: str) -> None:
    """Give the tokenizer of a folder another chat template."""
    (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
    config = folder / "tokenizer_config.json"
    if config.is_file() and "chat_template" in (value := read_json(config)):
        config.unlink()
        write_json(config, {key: item for key, item in value.items() if key != "chat_template"})


def copy_block_files(files: Mapping[str, BlockFile], folder: Path) -> None:
    """Copy the files of the result's token blocks.

    Raises:
        MergeError: the folder already has a file of this name.
    """
    for name, file in files.items():
        if (folder / name).exists():
            raise MergeError(f"{file.path}: the result already has another file called {name}; rename it")
        shutil.copyfile(file.path, folder / name)


def _with_value(settings: Any, key: str, value: Any) -> Any:
    """The settings, parts included, with a value wherever they have the key."""
    if not isinstance(settings, dict):
        return settings
    return {name: value if name == key else _with_value(item, key, value) for name, item in settings.items()}


def _with_dtype(value: Any, dtype: str) -> Any:
    """A config, sub-configs included, with the type of its weights replaced wherever it names one."""
    if not isinstance(value, dict):
        return value
    return {
        key: dtype if key in ("dtype", "torch_dtype") and isinstance(item, str) else _with_dtype(item, dtype)
        for key, item in value.items()
    }
