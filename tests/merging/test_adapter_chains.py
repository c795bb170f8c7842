"""Adapters that were trained on a model with an adapter: each is merged upon what lies under it, as PEFT does step by step."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kits.reading import read_in_runs
from kits.tiny_llama import HIDDEN, loaded, tiny_llama
from mmgrid.merging import MergeError, merge
from mmgrid.merging.compare import compare
from mmgrid.merging.extract_lora import extract_lora
from mmgrid.merging.models.adapter_model import folders_under
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.verify import verify

RANK = 3
Q = "model.layers.1.self_attn.q_proj"


def _adapter(folder: Path, seed: int, named: str, **settings: Any) -> Path:
    generator = torch.Generator().manual_seed(seed)
    names = {f"base_model.model.{Q}.lora_{half}.weight": half for half in "AB"}
    shapes = {"A": (RANK, HIDDEN), "B": (HIDDEN, RANK)}
    folder.mkdir()
    save_file(
        {name: torch.randn(shapes[half], generator=generator) for name, half in names.items()},
        folder / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "base_model_name_or_path": named, "r": RANK, "lora_alpha": RANK, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """The folder of `second`, an adapter on `first`, an adapter on `base`."""
    tiny_llama(tmp_path / "base", 0)
    _adapter(tmp_path / "first", 1, "../base")
    _adapter(tmp_path / "second", 2, "../first")
    return tmp_path


def _stepwise(folder: Path) -> dict[str, torch.Tensor]:
    """What is expected of `second`: each adapter merged by itself, into a model that is written."""
    linear = {"method": "linear", "dtype": "float32"}
    merge({**linear, "sources": [{"path": str(folder / "first")}]}, folder / "once")
    merge({**linear, "sources": [{"path": str(folder / "second"), "onto": str(folder / "once")}]}, folder / "twice")
    return loaded(folder / "twice")


@pytest.mark.parametrize("run", [7, 10_000])
def test_an_adapter_of_an_adapter_is_merged_upon_both(run: int, chain: Path) -> None:
    found, expected, once = read_in_runs(chain / "second", run=run), _stepwise(chain), loaded(chain / "base")
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in found)
    assert not found[f"{Q}.weight"].equal(once[f"{Q}.weight"])


def test_the_record_of_a_merge_has_all_files_of_a_chain(chain: Path) -> None:
    recipe = {"method": "task_arithmetic", "base": str(chain / "base"), "sources": [{"path": str(chain / "second")}]}
    merge(recipe, chain / "out")
    assert loaded(chain / "out")[f"{Q}.weight"].allclose(_stepwise(chain)[f"{Q}.weight"], atol=1e-5)
    assert verify(chain / "out").equal
    assert not (chain / "out" / "mergekit_config.yml").exists()
    settings = chain / "first" / "adapter_config.json"
    settings.write_text(settings.read_text().replace('"lora_alpha": 3', '"lora_alpha": 4'))
    changed = verify(chain / "out")
    assert not changed.equal
    assert len(changed.changed["second"]) == 1


def test_the_models_of_a_chain_may_be_given(chain: Path) -> None:
    expected = _stepwise(chain)[f"{Q}.weight"]
    for name in ("first", "second"):
        settings = chain / name / "adapter_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": "some/body"}))
    second, first, base = (str(chain / name) for name in ("second", "first", "base"))
    for number, given in enumerate(
        (
            {"base": first, "base_onto": base, "sources": [{"path": second}]},
            {"base": base, "sources": [{"path": second, "onto": first}]},
        )
    ):
        merge({"method": "task_arithmetic", **given}, chain / f"out{number}")
        assert loaded(chain / f"out{number}")[f"{Q}.weight"].allclose(expected, atol=1e-5)
        assert not (chain / f"out{number}" / "mergekit_config.yml").exists()  # mergekit has no adapters of adapters


@pytest.mark.parametrize(
    "names", [("../second", "../first"), ("../base", "../second"), ("../base", ".")], ids=["each other", "itself", "."]
)
def test_adapters_that_lie_upon_each_other_in_a_circle_are_refused(names: tuple[str, str], chain: Path) -> None:
    for folder, named in zip(("first", "second"), names, strict=True):
        settings = chain / folder / "adapter_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": named}))
    for ask in (open_source, folders_under):
        with pytest.raises(MergeError, match=r"second: lies upon .*no whole model lies under them; correct base_model"):
            ask(chain / "second")


def test_what_is_wrong_under_a_chain_is_said_of_its_place(chain: Path) -> None:
    settings = chain / "first" / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"use_dora": True}))
    with pytest.raises(MergeError, match=r"first: is DoRA.* It is the model under the adapter .*second"):
        open_source(chain / "second")


def test_an_adapter_that_was_extracted_upon_an_adapter_can_be_read(chain: Path) -> None:
    tuned = tiny_llama(chain / "tuned", 5, near=chain / "base")
    extract_lora(tuned, chain / "first", chain / "extracted", rank=16)
    assert compare(chain / "extracted", tuned).whole.pair().distance < 1e-3


def test_gives_the_same_weights_as_peft_step_by_step(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = tiny_llama(tmp_path / "base", 0)
    steps = (
        {"target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "up_proj"], "trainable_token_indices": [1, 4]},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        for number, settings in enumerate(steps):
            below = AutoModelForCausalLM.from_pretrained(model)
            config = peft.LoraConfig(r=4, lora_alpha=12, task_type="CAUSAL_LM", **settings)
            adapted = peft.get_peft_model(below, config)
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn_like(parameter)
            adapted.save_pretrained(tmp_path / f"adapter{number}")
            model = tmp_path / f"model{number}"
            adapted.merge_and_unload().save_pretrained(model)
    settings = tmp_path / "adapter1" / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": "../adapter0"}))
    found, expected = read_in_runs(tmp_path / "adapter1"), loaded(model)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected[name], rtol=1e-6, atol=1e-6), name
