"""Reads and writes BIGRec's official checkpoints (Bao et al. 2023, github.com/SAI990323/BIGRec at commit bb4dd0a).

`train.py` saves a LoRA adapter, which is merged into its base model here; later models are whole ones. Neither says how
it is asked, nor which language model embeds titles: that is the base, and not the tuned model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedTokenizerBase

from mmgrid.backbone.load import BackboneError, backbone_folder, load_tokenizer
from mmgrid.files import write_json
from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.adapter_model import model_under
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG
from mmgrid.merging.models.lora import ADAPTER_FILE, LoraFolder
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.models.tensors import TensorFolder, Tensors
from mmgrid.merging.models.weight_files import WEIGHTS_FILE
from mmgrid.paradigms.layouts import LayoutError
from mmgrid.paradigms.shared.causal_weights import causal_tensors
from mmgrid.paradigms.shared.foreign_weights import Copied, copy_weights, open_weights, read_config
from mmgrid.paradigms.text.layouts import SETTINGS_FILE, BigrecExport, BigrecImport
from mmgrid.paradigms.text.official import Official

_PICKLED_ADAPTER = "adapter_model.bin"  # as peft saved it until version 0.6
_DEFAULTS = {"history_length": 10, "beams": 4, "new_tokens": 128}
_DATA = {
    "movie": {
        "instruction": "Given a list of movies the user has watched before, please recommend a new movie that the user "
        "likes to the user.",
        "history": "The user has watched the following movies before:",
        "hits": "item",
    },
    "game": {
        "instruction": "Given a list of video games the user has played before, please recommend a new video game that "
        "the user likes to the user.",
        "history": "The user has played the following video games before:",
        "hits": "title",
    },
}


def read(source: Path, folder: Path, options: BigrecImport) -> Mapping[str, Any]:
    """See `Converter.read`."""
    if not source.is_dir():
        raise LayoutError(f"{source}: name the model's folder, or the adapter's")
    settings = _settings(source, options)
    base, base_folder = _base(source, settings.get("base"))
    is_adapter = (source / ADAPTER_CONFIG).is_file()
    config = read_config(base_folder if is_adapter else source)
    try:
        with _merged(source, base_folder) if is_adapter else open_weights(source) as weights:
            tensors = causal_tensors(weights, config, source)
            _check_floats(weights, base_folder if is_adapter else source)
            copy_weights(weights, tensors, folder / WEIGHTS_FILE)
            rows = next(weights.info(name).shape[0] for name in tensors if name.endswith("embed_tokens.weight"))
    except MergeError as error:
        raise LayoutError(str(error)) from None
    has_tokenizer = not is_adapter and any(source.glob("tokenizer*"))
    tokenizer = _save_tokenizer(source if has_tokenizer else base_folder, folder)
    prompt: dict[str, Any] = {name: settings[name] for name in ("instruction", "history", "beams", "hits")}
    prompt["base"] = base
    ours = {"paradigm": "text", "prompt": settings["instruction"], "history_length": settings["history_length"]}
    ours |= {"text_tokens": 64, "title_tokens": settings["new_tokens"], "every_position": False, "bigrec": prompt}
    config.pop("quantization_config", None)  # of a training that read the base in 8 bits: these weights are plain
    write_json(folder / "config.json", config | {"vocab_size": rows, "mmgrid": ours})
    values = Official(tokenizer, **prompt).values
    domain = {"domain": options.domain} if options.domain else {}
    return {**domain, "evaluation": {"values": values}}


def write(checkpoint: Path, folder: Path, options: BigrecExport) -> list[str]:
    """See `Converter.write`."""
    config = read_config(checkpoint)
    ours = config.pop("mmgrid", {})
    prompt = ours.get("bigrec")
    if prompt is None and not options.own_prompts:
        raise LayoutError(
            f"{checkpoint}: was trained with the prompts of text, and BIGRec asks with others, so it would score "
            "differently there; to export it all the same, for code that asks as text does: --option own_prompts=true"
        )
    with open_source(checkpoint) as tensors:
        copy_weights(tensors, causal_tensors(tensors, config, checkpoint), folder / WEIGHTS_FILE)
    write_json(folder / "config.json", config)
    _save_tokenizer(checkpoint, folder)
    notes = ["It is a whole model and no adapter: leave out PeftModel.from_pretrained in inference.py"]
    if prompt is None:
        return [*notes, "BIGRec's prompts are not those of this training: ask as docs/paradigms.md says"]
    settings = {**prompt, "history_length": ours["history_length"], "new_tokens": ours["title_tokens"]}
    write_json(folder / SETTINGS_FILE, settings)
    notes.append(f"{SETTINGS_FILE} has the texts of the prompt, for the `instruction` and `input` of the test data")
    notes.append(f"Embed titles, in embedding.ipynb and evaluate.py, with the base model {prompt['base']}")
    return notes


def _settings(source: Path, options: BigrecImport) -> dict[str, Any]:
    """The options, where one is missing those beside the weights, else the official ones."""
    beside = read_config(source, SETTINGS_FILE) if (source / SETTINGS_FILE).is_file() else {}
    official = _DATA.get(options.data or "", {})
    given = options.model_dump(exclude_none=True, exclude={"data", "domain"})
    settings = {"hits": "title", **_DEFAULTS, **beside, **official, **given}
    missing = next((name for name in ("instruction", "history") if name not in settings), None)
    if missing:
        raise LayoutError(
            f"{source}: BIGRec's models do not say how they are asked; name the official data set, --option data=movie "
            f"or data=game, or give the texts: --option {missing}=TEXT"
        )
    try:  # what lies beside the weights is checked like options
        BigrecImport.model_validate({name: settings[name] for name in settings if name in BigrecImport.model_fields})
    except ValueError as error:
        raise LayoutError(f"{source / SETTINGS_FILE}: {error}") from None
    return settings


def _base(source: Path, named: str | None) -> tuple[str, Path]:
    """The base model, as the checkpoint names it, and its folder."""
    try:
        if named is None:
            if not (source / ADAPTER_CONFIG).is_file():
                raise LayoutError(
                    f"{source}: BIGRec embeds titles with the language model that this one was tuned from; name it: "
                    "--option base=FOLDER (or its name on the Hub)"
                )
            place = model_under(source, None, None)
            named = str(place.absolute())
        else:
            here = Path(named).expanduser()
            named = str(here.absolute()) if here.is_dir() else named
            place = Path(backbone_folder(named))
        load_tokenizer(place)
    except MergeError as error:
        raise LayoutError(f"{error}; name it: --option base=FOLDER") from None
    except BackboneError as error:
        raise LayoutError(f"option base: {error}") from None
    if not any(place.glob("*.safetensors")):
        raise LayoutError(f"option base: {named}: holds no safetensors, or is no folder; save the model as safetensors")
    return named, place


@contextmanager
def _merged(adapter: Path, base: Path) -> Iterator[Tensors]:
    """The weights of the base with the adapter merged into it; those that it changes in float32, unrounded."""
    with TemporaryDirectory(prefix="mmgrid-") as work:
        if not (adapter / ADAPTER_FILE).is_file() and (adapter / _PICKLED_ADAPTER).is_file():
            copyfile(adapter / ADAPTER_CONFIG, Path(work) / ADAPTER_CONFIG)
            with open_weights(adapter / _PICKLED_ADAPTER) as pickled:
                same = {name: Copied(name, pickled.info(name).shape) for name in pickled}
                copy_weights(pickled, same, Path(work) / ADAPTER_FILE)
            adapter = Path(work)
        if (adapter / ADAPTER_FILE).is_file():
            with TensorFolder(adapter / ADAPTER_FILE) as own:
                if not len(own):
                    raise LayoutError(f"{adapter / ADAPTER_FILE}: holds no weights of LoRA; save the adapter again")
        with LoraFolder(adapter, base) as merged:
            yield merged


def _check_floats(weights: Tensors, source: Path) -> None:
    quantised = next((name for name in weights if not is_float(weights.info(name).dtype)), None)
    if quantised:
        raise LayoutError(
            f"{source}: {quantised} is {weights.info(quantised).dtype}, so the model is quantised; name one in float16, "
            "bfloat16 or float32"
        )


def _save_tokenizer(source: Path, folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = load_tokenizer(source)
    except BackboneError as error:
        raise LayoutError(f"{source}: its tokenizer cannot be read ({error})") from None
    if tokenizer.eos_token_id is None:
        raise LayoutError(f"{source}: its tokenizer has no end-of-text token, with which BIGRec's answers end")
    tokenizer.save_pretrained(str(folder))
    return tokenizer
