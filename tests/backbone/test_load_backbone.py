"""A backbone is loaded completely, in float32, without running or unpickling code; otherwise an error names it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kits.hub_server import running_hub
from kits.small import make_tokenizer
from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.load import BackboneError, load_model, load_tokenizer
from mmgrid.backbone.tiny import create
from mmgrid.testing.data import make_items, same_weights

TOKENIZER = make_tokenizer(make_items(40))
RECIPE = TinyRecipe(hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(RECIPE, TOKENIZER, seed=0).save_pretrained(str(tmp_path))
    TOKENIZER.save_pretrained(str(tmp_path))
    return tmp_path


def test_loads_with_and_without_the_head(folder: Path) -> None:
    made = create(RECIPE, TOKENIZER, seed=0)
    assert same_weights(load_model(folder), made)
    assert same_weights(load_model(folder, head=False), made.model)
    text = "red lamp <|im_end|> ünï"
    assert load_tokenizer(folder)(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert load_tokenizer(folder).eos_token_id == TOKENIZER.eos_token_id


def test_is_float32_whatever_the_saved_type(folder: Path) -> None:
    create(RECIPE, TOKENIZER, seed=0).to(torch.bfloat16).save_pretrained(str(folder))
    assert {weight.dtype for weight in load_model(folder).parameters()} == {torch.float32}


def _config(folder: Path, **values) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def _drop(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "model_type"),
    "a broken config": (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
    "an unknown model": (lambda folder: _config(folder, model_type="nosuch"), "nosuch"),
    "layers that do not fit": (lambda folder: _config(folder, num_hidden_layers=1), "layer"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "truncated weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"\x10" * 99), "header"),
    "pickled weights": (_pickle, "model.safetensors"),
    "a missing weight": (_drop, "lack model.layers.1.mlp.up_proj.weight in the shape"),
    "another shape": (lambda folder: _config(folder, intermediate_size=72), "and 5 more in the shape"),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_an_incomplete_backbone_is_an_error_with_its_reason(folder: Path, what: str) -> None:
    harm, reason = BROKEN[what]
    harm(folder)
    with pytest.raises(BackboneError, match=f"backbone {folder}: cannot be loaded") as caught:
        load_model(folder)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_an_incomplete_tokenizer_is_an_error(folder: Path, content: str | None) -> None:
    file = folder / "tokenizer.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(BackboneError, match=f"backbone {folder}: cannot be loaded"):
        load_tokenizer(folder)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_missing_folder_is_an_error(tmp_path: Path, load: Callable, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="backbone .*nowhere: cannot be loaded"):
        load(tmp_path / "nowhere")


def test_remote_code_is_off(folder: Path) -> None:
    """A folder with its own code is refused, and the code is not run."""
    trap = folder / "trap"
    (folder / "own.py").write_text(f"open({str(trap)!r}, 'w').close()\n")
    _config(folder, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_model(folder)
    assert not trap.exists()


def test_a_name_on_the_hub_is_a_folder_of_its_cache(folder: Path, tmp_path: Path, monkeypatch) -> None:
    with running_hub(tmp_path / "cache", monkeypatch) as hub:
        commit = hub.add("some/body", folder)
        hub.add("some/body", {"config.json": b"{}"})
        model = load_model("some/body", revision=commit)
        load_tokenizer(f"some/body@{commit}")
        model.save_pretrained(str(tmp_path / "copy"))
        assert str(tmp_path) not in (tmp_path / "copy" / "config.json").read_text()
        with pytest.raises(BackboneError, match=r"backbone some/body: .* but not this revision"):
            load_model("some/body", revision="v1")
