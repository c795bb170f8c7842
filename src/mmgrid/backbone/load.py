"""Loads a backbone: any causal language model in Hugging Face layout, from a folder or by its id on the hub."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME

from mmgrid.families.in_memory import state_dict, tensors_of
from mmgrid.files import HubName, model_folder
from mmgrid.files.foreign import foreign
from mmgrid.merging.models.family.place import family_of
from mmgrid.merging.models.sources import is_adapter, open_source


class BackboneError(ValueError):
    """The folder or id cannot be loaded as a causal language model; the message says why."""


def load_model(
    source: str | Path, *, head: bool = True, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The backbone in float32, with its language-model head or (`head=False`) without."""
    factory = AutoModelForCausalLM if head else AutoModel
    with _loading(source):
        folder = _found(source, revision, trust_remote_code)
        return whole_model(factory, folder, dtype=torch.float32, trust_remote_code=trust_remote_code)


def load_tokenizer(
    source: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer stored with the backbone's weights."""
    with _loading(source):
        folder = _found(source, revision, trust_remote_code)
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)


def backbone_folder(source: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> str | Path:
    """The folder of a backbone: `source`, or for a name on the Hub that of the Hub's cache, downloaded if needed."""
    with _loading(source):
        return _found(source, revision, trust_remote_code)


def _found(source: str | Path, revision: str | None, with_code: bool) -> str | Path:
    name = HubName.parse(str(source), without_organisation=True)
    if name is None or Path(source).exists():
        return source
    return model_folder(HubName(name.repo, revision or name.revision), more=("*.py",) if with_code else ())


def whole_model(factory: Any, source: str | Path, **options: Any) -> Any:
    """`factory.from_pretrained`, from safetensors only, and only if every weight is there.

    Transformers by itself would initialise a missing or misshapen weight at random and continue.

    The weights of a checkpoint that is part of a family are put together in memory, and those of a LoRA adapter with its
    model's.

    Raises errors of any kind, since libraries index what they have not checked; see `foreign`.
    """
    options |= {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    if family_of(Path(source)) is not None:
        model, about = _from_tensors(factory, Path(source), state_dict(Path(source)), options)
    elif is_adapter(Path(source)):
        with open_source(Path(source)) as opened:
            tensors = tensors_of(opened)
        model, about = _from_tensors(factory, opened.companions, tensors, options)
    else:
        model, about = factory.from_pretrained(str(source), **options)
    missing = sorted({*about["missing_keys"], *(name for name, *_ in about["mismatched_keys"])})
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"its weights lack {missing[0]}{more} in the shape that its config requires")
    return model


def _from_tensors(factory: Any, folder: Path, tensors: Mapping[str, Tensor], options: dict[str, Any]) -> Any:
    """`factory.from_pretrained` of a folder without weights, which are given."""
    if hasattr(factory, "from_config"):  # an Auto class, which only the config turns into a model's class
        config = AutoConfig.from_pretrained(str(folder))
        with torch.device("meta"):
            factory = type(factory.from_config(config))
    else:
        config = factory.config_class.from_pretrained(str(folder))
    options.pop("trust_remote_code", None)
    model, about = factory.from_pretrained(None, config=config, state_dict=dict(tensors), **options)
    if (folder / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model, about


def _loading(source: str | Path) -> AbstractContextManager[None]:
    remedy = "give a folder with config.json, tokenizer and safetensors weights, or the id of one on the hub"
    return foreign(f"backbone {source}", BackboneError, "cannot be loaded", remedy)
