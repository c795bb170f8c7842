"""Reads and writes HLLM's official checkpoints (Chen et al. 2024, github.com/bytedance/HLLM at commit 2deed17).

One state dict holds two causal language models, `item_llm.*` and `user_llm.*`, the [ITEM] vector `item_emb_tokens`
[1, 1, D] and `logit_scale`. Scores read neither the language-model heads nor the user model's token embeddings: they
are left out of our checkpoints, and the official code, which loads with `strict=False`, does without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, PreTrainedConfig

from mmgrid.backbone.load import BackboneError, load_tokenizer
from mmgrid.files.bounded_yaml import load_yaml
from mmgrid.files.foreign import foreign
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.models.weight_files import WEIGHTS_FILE
from mmgrid.paradigms.layouts import LayoutError
from mmgrid.paradigms.semb.layouts import ITEM_FOLDER, SETTINGS_FILE, USER_FOLDER, HllmImport
from mmgrid.paradigms.semb.model import SembConfig, SembModel
from mmgrid.paradigms.shared.foreign_weights import Copied, copy_weights, open_weights, pickle_weights

_TOWERS = {"item_llm.model.": "item_tower.", "user_llm.model.": "user_tower."}
_SINGLE = {"item_emb_tokens": "item_token", "logit_scale": "log_scale"}
_NOT_READ = ("item_llm.lm_head.weight", "user_llm.lm_head.weight", "user_llm.model.embed_tokens.weight")
_MOST_LENGTH = 1_000_000  # of texts and histories; no model reads that much
_DEFAULTS = {
    "item_prompt": "Compress the following sentence into embedding: ",
    "text_keys": ("title", "description"),
    "MAX_TEXT_LENGTH": 64,
    "MAX_ITEM_LIST_LENGTH": 50,
    "item_emb_token_n": 1,
}


def read(source: Path, folder: Path, options: HllmImport) -> Mapping[str, Any]:
    """See `Converter.read`."""
    beside = source if source.is_dir() else source.parent
    settings = _settings(beside, options)
    item_model = Path(options.item_model).expanduser() if options.item_model else beside / ITEM_FOLDER
    user_model = Path(options.user_model).expanduser() if options.user_model else beside / USER_FOLDER
    if not item_model.is_dir():
        raise LayoutError(
            f"{source}: HLLM's weights have no config and no tokenizer; name the folder of the language model that they "
            "were trained from: --option item_model=FOLDER (and user_model=FOLDER, if it is another one)"
        )
    user_model = user_model if user_model.is_dir() else item_model
    config = SembConfig(
        item_config=_language_model(item_model),
        user_config=_user_config(_language_model(user_model)),
        prompt=settings["item_prompt"],
        text_tokens=settings["MAX_TEXT_LENGTH"],
        title_tokens=settings["MAX_TEXT_LENGTH"],
        history_length=settings["MAX_ITEM_LIST_LENGTH"],
        text_keys=list(settings["text_keys"]),
    )
    with open_weights(source) as weights:
        copy_weights(weights, _ours(weights, config, source), folder / WEIGHTS_FILE)
    config.architectures = [SembModel.__name__]
    config.save_pretrained(str(folder))
    try:
        load_tokenizer(item_model).save_pretrained(str(folder))
    except BackboneError as error:
        raise LayoutError(f"{item_model}: its tokenizer cannot be read ({error})") from None
    return {"domain": options.domain} if options.domain else {}


def write(checkpoint: Path, folder: Path, options: Any) -> list[str]:
    """See `Converter.write`."""
    with foreign(checkpoint, LayoutError, "its config or tokenizer cannot be read"):
        config, tokenizer = SembConfig.from_pretrained(str(checkpoint)), load_tokenizer(checkpoint)
    assert isinstance(config, SembConfig)
    settings, notes = _official_settings(config, tokenizer, checkpoint)
    with open_source(checkpoint) as tensors:
        pickle_weights(tensors, _theirs(tensors), folder / "pytorch_model.bin")
    for name, part in ((ITEM_FOLDER, config.item_config), (USER_FOLDER, config.user_config)):
        (folder / name).mkdir()
        part.architectures = None
        part.save_pretrained(str(folder / name))
    tokenizer.save_pretrained(str(folder / ITEM_FOLDER))
    (folder / SETTINGS_FILE).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    notes.append(
        f"Evaluate with `main.py --config_file … {SETTINGS_FILE} --val_only True --checkpoint_dir FOLDER`, FOLDER being "
        f"this one, and item_pretrain_dir and user_pretrain_dir set to {ITEM_FOLDER}/ and {USER_FOLDER}/ in it"
    )
    return notes


def _ours(weights: Tensors, config: SembConfig, source: Path) -> dict[str, Copied]:
    """Our names of the tensors that scores read. Raises LayoutError if the weights are not those of the config."""
    if "item_emb_tokens" not in weights:
        what = "mean pooling (item_emb_token_n: 0)" if any(n.startswith("item_llm.") for n in weights) else "no HLLM"
        raise LayoutError(f"{source}: no item_emb_tokens, so this is {what}; semb reads an item at one [ITEM] vector")
    shape = weights.info("item_emb_tokens").shape
    if len(shape) != 3 or shape[:2] != (1, 1):
        raise LayoutError(f"{source}: item_emb_tokens has shape {list(shape)}; semb has one [ITEM] vector, [1, 1, D]")
    if "logit_scale" not in weights:
        raise LayoutError(
            f"{source}: no logit_scale, so it was not trained with HLLM's nce loss, the one that semb has"
        )
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in SembModel(config).state_dict().items()}
    found: dict[str, Copied] = {}
    for name in weights:
        if name in _NOT_READ or name.endswith("rotary_emb.inv_freq"):
            continue
        own = _SINGLE.get(name) or _renamed(name, _TOWERS)
        size = weights.info(name).shape
        wanted = expected.get(own or "")
        if wanted is None:
            raise LayoutError(
                f"{source}: {name} has no place in semb over {_kinds(config)}; check item_model and user_model"
            )
        if (name not in _SINGLE and size != wanted) or weights.info(name).size != torch.Size(wanted).numel():
            raise LayoutError(
                f"{source}: {name} has shape {list(size)}, and the config requires {list(wanted)}; "
                "name the language models that it was trained from (item_model, user_model)"
            )
        found[own or ""] = Copied(name, wanted)
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise LayoutError(f"{source}: lacks the weights of {missing[0]}{_more(missing)}")
    return found


def _theirs(tensors: Tensors) -> dict[str, Copied]:
    back = {ours: theirs for theirs, ours in _TOWERS.items()}
    single = {ours: theirs for theirs, ours in _SINGLE.items()}
    found = {}
    for name in tensors:
        shape = tensors.info(name).shape
        found[single.get(name) or _renamed(name, back) or name] = Copied(
            name, (1, 1, *shape) if name == "item_token" else shape
        )
    return found


def _renamed(name: str, prefixes: Mapping[str, str]) -> str | None:
    return next((new + name.removeprefix(old) for old, new in prefixes.items() if name.startswith(old)), None)


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _kinds(config: SembConfig) -> str:
    return " and ".join(dict.fromkeys((config.item_config.model_type, config.user_config.model_type)))


def _settings(beside: Path, options: HllmImport) -> dict[str, Any]:
    """The official settings: options before the file before the official defaults."""
    file = beside / SETTINGS_FILE
    written: Any = {}
    if file.is_file():
        try:
            written = load_yaml(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
            raise LayoutError(f"{file}: cannot be read ({error})") from None
        if not isinstance(written, dict):
            raise LayoutError(f"{file}: holds no settings")
    given = {
        "item_prompt": options.item_prompt,
        "text_keys": options.text_keys,
        "MAX_TEXT_LENGTH": options.max_text_length,
        "MAX_ITEM_LIST_LENGTH": options.history_length,
    }
    found = _DEFAULTS | {name: written[name] for name in _DEFAULTS if name in written}
    _check_kinds(found, file)
    found |= {name: value for name, value in given.items() if value is not None}
    if found["item_emb_token_n"] != 1:
        raise LayoutError(f"{file}: item_emb_token_n is {found['item_emb_token_n']}; semb has one [ITEM] vector")
    strange = [key for key in found["text_keys"] if str(key).strip() not in ("title", "description")]
    if strange or not found["text_keys"]:
        raise LayoutError(f"text_keys {list(found['text_keys'])}: our items have a title and a description, no more")
    return found


def _check_kinds(settings: Mapping[str, Any], file: Path) -> None:
    """Raise LayoutError for a setting that is not of its kind, which would be noticed long after the import."""
    keys = settings["text_keys"]
    if not isinstance(settings["item_prompt"], str):
        raise LayoutError(f"{file}: item_prompt is {settings['item_prompt']!r}; it must be a text")
    if not isinstance(keys, list | tuple) or not all(isinstance(key, str) for key in keys):
        raise LayoutError(f"{file}: text_keys is {keys!r}; it must be a list of texts")
    for name in ("MAX_TEXT_LENGTH", "MAX_ITEM_LIST_LENGTH"):
        length = settings[name]
        if type(length) is not int or not 1 <= length <= _MOST_LENGTH:
            raise LayoutError(f"{file}: {name} is {length!r}; it must be a whole number from 1 to {_MOST_LENGTH:,}")


def _official_settings(config: SembConfig, tokenizer: Any, checkpoint: Path) -> tuple[dict[str, Any], list[str]]:
    """The settings with which the official code reads items as this checkpoint does, and what differs."""
    settings: dict[str, Any] = {"model": "HLLM", "item_llm_init": False, "user_llm_init": False, "loss": "nce"}
    notes = []
    if config.text_keys:
        prompt, keys, length = config.prompt, config.text_keys, config.text_tokens
    else:  # our own texts: a blank before `description:` is part of the official key
        if tokenizer("a")["input_ids"] != tokenizer("a", add_special_tokens=False)["input_ids"]:
            raise LayoutError(
                f"{checkpoint}: the official code begins each item with the tokenizer's special tokens, and this model "
                "was trained without them: it would score differently"
            )
        prompt, keys = f"{config.prompt} ".lstrip(), ["title", " description"]
        beside = 0 if config.prompt_counts else len(tokenizer(f"{config.prompt} title:".strip())["input_ids"])
        length = beside + config.text_tokens
        notes.append(
            f"The column of descriptions must be called {keys[1]!r}, with the blank; items without a description have "
            "none there"
        )
        if config.title_tokens < config.text_tokens:
            notes.append(f"Titles longer than {config.title_tokens} tokens are cut here and not there")
    settings |= {"item_prompt": prompt, "text_keys": list(keys), "MAX_TEXT_LENGTH": length}
    settings |= {"MAX_ITEM_LIST_LENGTH": config.history_length, "item_emb_token_n": 1}
    kinds = {config.item_config.model_type, config.user_config.model_type} - {"llama", "mistral"}
    if kinds:
        notes.append(
            f"The official code builds Llama and Mistral; extend its create_llm for {', '.join(sorted(kinds))}"
        )
    return settings, notes


def _language_model(folder: Path) -> PreTrainedConfig:
    with foreign(folder, LayoutError, "its config.json cannot be read"):
        return AutoConfig.from_pretrained(str(folder))


def _user_config(config: PreTrainedConfig) -> dict[str, Any]:
    """The user model's config without a vocabulary: it reads vectors, never tokens."""
    no_tokens = {"vocab_size": 1, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))}
    return json.loads(config.to_json_string(use_diff=False)) | no_tokens
