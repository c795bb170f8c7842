"""The chat template that a mergekit file asks for."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.cards import read_json
from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.file import MergekitFile
from mmgrid.merging.mergekit.model_name import ModelName
from mmgrid.merging.models.chat_formats import chat_template, is_template
from mmgrid.merging.models.token_files import CHAT_TEMPLATE


def chat_template_of(file: MergekitFile, folders: Mapping[ModelName, Path]) -> str | None:
    """The template in Jinja: as given, of a format by its name, or with `auto` that of most models.

    None if the file asks for none.

    Raises:
        MergeError: the text is no template.
    """
    given = file.chat_template
    if given is None:
        return None
    if given == "auto":
        found = Counter(text for folder in folders.values() if (text := template_in(folder)) and is_template(text))
        return found.most_common(1)[0][0] if found else None
    try:
        return chat_template(given, as_mergekit=True)
    except MergeError as error:
        raise MergeError(f"{file.at('chat_template')}: {error}, or auto") from error


def template_in(folder: Path) -> str | None:
    """The chat template of a model's tokenizer; of several, the one called `default`."""
    file = folder / CHAT_TEMPLATE
    if file.is_file():
        return file.read_text(encoding="utf-8").strip() or None
    value: Any = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(value, list):
        value = {str(one.get("name")): one.get("template") for one in value if isinstance(one, Mapping)}
    if isinstance(value, Mapping):
        value = value.get("default")
    return value.strip() or None if isinstance(value, str) else None
