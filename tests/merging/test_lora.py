"""LoRA adapters as sources: merged into their model while reading, as peft does."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kits.reading import read_in_runs
from kits.tiny_llama import HIDDEN, INNER, TOKENS, loaded, tiny_llama
from mmgrid.merging import MergeError, merge
from mmgrid.merging.compare import compare
from mmgrid.merging.models import low_rank
from mmgrid.merging.models.lora import LoraFolder
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.verify import verify

RANK = 3
Q, DOWN = "model.layers.1.self_attn.q_proj", "model.layers.2.mlp.down_proj"
EMBEDDING = "model.embed_tokens"


def _adapter(folder: Path, base: Path | None = None, seed: int = 9, **settings: Any) -> Path:
    """Writes an adapter of two linear layers."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (rows, columns) in {Q: (HIDDEN, HIDDEN), DOWN: (HIDDEN, INNER)}.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    named = "somebody/elses" if base is None else str(base)
    config = {"peft_type": "LORA", "base_model_name_or_path": named, "r": RANK, "lora_alpha": 6, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "base", 0)


def test_merges_an_adapter_by_its_formula(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "adapter", base)
    factors, expected = load_file(adapter / "adapter_model.safetensors"), loaded(base)
    for module in (Q, DOWN):
        down, up = (factors[f"base_model.model.{module}.lora_{half}.weight"].double() for half in "AB")
        expected[f"{module}.weight"] = (expected[f"{module}.weight"].double() + 2.0 * up @ down).float()
    found = read_in_runs(adapter)
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in found)


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({"use_rslora": True}, (6 / math.sqrt(RANK), 6 / math.sqrt(RANK))),
        ({"alpha_pattern": {"q_proj": 12}}, (4.0, 2.0)),
        ({"alpha_pattern": {"layers.2.mlp.down_proj": 3, "k_proj": 1}}, (2.0, 1.0)),
        ({"init_lora_weights": "gaussian", "use_dora": False, "lora_bias": False}, (2.0, 2.0)),
    ],
    ids=str,
)
def test_the_scale_follows_from_the_adapters_settings(
    settings: dict[str, Any], scales: tuple[float, float], base: Path, tmp_path: Path
) -> None:
    adapter = _adapter(tmp_path / "adapter", base, **settings)
    factors, below, found = load_file(adapter / "adapter_model.safetensors"), loaded(base), read_in_runs(adapter)
    for module, scale in zip((Q, DOWN), scales, strict=True):
        down, up = (factors[f"base_model.model.{module}.lora_{half}.weight"].double() for half in "AB")
        expected = below[f"{module}.weight"].double() + scale * up @ down
        assert torch.allclose(found[f"{module}.weight"].double(), expected, rtol=1e-6, atol=1e-6)


def test_runs_change_no_bit(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_rank, "_BLOCK_ELEMENTS", 64)
    adapter = _adapter(tmp_path / "adapter", base)
    whole, pieces = read_in_runs(adapter, run=10_000), read_in_runs(adapter, run=7)
    assert all(whole[name].equal(pieces[name]) for name in whole)


def test_embeddings_transposed_layers_and_whole_modules(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "adapter", base, fan_in_fan_out=True)
    tensors = load_file(adapter / "adapter_model.safetensors")
    for half in "AB":
        del tensors[f"base_model.model.{DOWN}.lora_{half}.weight"]
    generator = torch.Generator().manual_seed(3)
    tensors[f"base_model.model.{EMBEDDING}.lora_embedding_A"] = torch.randn(RANK, TOKENS, generator=generator)
    tensors[f"base_model.model.{EMBEDDING}.lora_embedding_B"] = torch.randn(HIDDEN, RANK, generator=generator)
    tensors["base_model.model.lm_head.weight"] = torch.randn(TOKENS, HIDDEN, generator=generator)
    save_file(tensors, adapter / "adapter_model.safetensors")
    found, below = read_in_runs(adapter), loaded(base)
    down, up = (tensors[f"base_model.model.{Q}.lora_{half}.weight"] for half in "AB")
    assert torch.allclose(found[f"{Q}.weight"], below[f"{Q}.weight"] + 2 * (up @ down).T, atol=1e-5)
    down, up = (tensors[f"base_model.model.{EMBEDDING}.lora_embedding_{half}"] for half in "AB")
    assert torch.allclose(found[f"{EMBEDDING}.weight"], below[f"{EMBEDDING}.weight"] + 2 * (up @ down).T, atol=1e-5)
    assert found["lm_head.weight"].equal(tensors["base_model.model.lm_head.weight"])


def test_an_adapter_is_merged_like_any_source_in_the_models_type(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0, dtype=torch.bfloat16)
    full = tiny_llama(tmp_path / "full", 1, near=base, dtype=torch.bfloat16)
    adapter = _adapter(tmp_path / "adapter")
    sources = [{"name": "adapter", "path": str(adapter), "weight": 0.5}, {"name": "full", "path": str(full)}]
    recipe = {"method": "task_arithmetic", "base": str(base), "sources": sources}
    merge(recipe, tmp_path / "out")
    found, below, other = loaded(tmp_path / "out"), loaded(base), loaded(full)
    made = read_in_runs(adapter, onto=base)
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    for name, tensor in found.items():
        start = below[name].float()
        step = 0.5 * (made[name].float() - start) if name in (f"{Q}.weight", f"{DOWN}.weight") else torch.zeros(())
        expected = (start + (step + (other[name].float() - start))).bfloat16()
        assert torch.allclose(tensor.float(), expected.float(), rtol=2**-7)
    record = json.loads((tmp_path / "out" / "mmgrid.json").read_text())
    files = record["sources"]["adapter"]["files"]
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "model.safetensors"}
    assert (tmp_path / "out" / "config.json").exists()  # the model's
    assert verify(tmp_path / "out").equal
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 7}))
    assert verify(tmp_path / "out").changed == {"adapter": ("adapter_config.json",)}


def test_one_adapter_on_two_models(base: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "other", 5)
    adapter = _adapter(tmp_path / "adapter")
    sources = [{"name": path.name, "path": str(adapter), "onto": str(path)} for path in (base, other)]
    merge({"method": "linear", "sources": sources}, tmp_path / "out")
    one, two = read_in_runs(adapter, onto=base), read_in_runs(adapter, onto=other)
    found = loaded(tmp_path / "out")
    assert all(torch.allclose(found[name], (one[name] + two[name]) / 2, atol=1e-6) for name in found)
    text = (tmp_path / "out" / "mergekit_config.yml").read_text()
    assert "model: ../base+../adapter" in text


def test_the_model_of_an_adapter_is_found_or_must_be_given(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "adapter")
    with pytest.raises(MergeError, match=r"'somebody/elses', which is not a folder on this machine; name its model"):
        merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    assert compare(adapter, base, base=base).whole.pair().norms[0] > 1
    beside = _adapter(tmp_path / "beside", Path("../base"))
    merge({"method": "linear", "sources": [{"path": str(beside), "name": "a"}]}, tmp_path / "out")
    assert loaded(tmp_path / "out")[f"{Q}.weight"].equal(read_in_runs(beside)[f"{Q}.weight"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "is an adapter of type IA3; only plain LoRA"),
        ({"use_dora": True}, "is DoRA"),
        ({"bias": "all"}, "also trained biases"),
        ({"lora_bias": True}, "also trained biases"),
        ({"layer_replication": [[0, 2]]}, "repeats layers"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as pissa_niter_4"),
        ({"use_qalora": True}, "was trained with use_qalora"),
    ],
    ids=str,
)
def test_unsupported_adapters_are_refused_with_advice(
    settings: dict[str, Any], words: str, base: Path, tmp_path: Path
) -> None:
    adapter = _adapter(tmp_path / "adapter", base, **settings)
    with pytest.raises(MergeError, match=words) as refused:
        open_source(adapter)
    assert "merge_and_unload" in str(refused.value)


def _stored(adapter: Path, tensors: dict[str, Tensor]) -> None:
    save_file(
        {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}, adapter / "adapter_model.safetensors"
    )


def test_an_adapter_finds_the_modules_of_older_files(base: Path, tmp_path: Path) -> None:
    """PEFT says `model.language_model.…` of a model whose file says `language_model.model.…`."""
    tensors = {name.replace("model.", "language_model.model.", 1): tensor for name, tensor in loaded(base).items()}
    tensors["language_model.lm_head.weight"] = tensors.pop("lm_head.weight")
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    pattern = {"^model.language_model.layers.1.self_attn.q_proj": 3}
    adapter = _adapter(
        tmp_path / "adapter",
        base,
        alpha_pattern=pattern,
        trainable_token_indices={"model.language_model.embed_tokens": [5]},
    )
    down, up, rows, head = (
        torch.randn(RANK, HIDDEN),
        torch.randn(HIDDEN, RANK),
        torch.randn(1, HIDDEN),
        torch.randn(TOKENS, HIDDEN),
    )
    module = Q.replace("model.", "model.language_model.", 1)
    words = "model.language_model.embed_tokens.token_adapter.trainable_tokens_delta"
    _stored(
        adapter, {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up, words: rows, "lm_head.weight": head}
    )
    found = read_in_runs(adapter)
    assert found.keys() == tensors.keys()
    query = f"language_model.{Q}.weight"
    torch.testing.assert_close(found[query], tensors[query] + up @ down)
    assert found["language_model.model.embed_tokens.weight"][5].equal(rows[0])
    assert found["language_model.lm_head.weight"].equal(head)


def test_an_adapter_finds_the_tied_head_of_older_files(base: Path, tmp_path: Path) -> None:
    tensors = {name.replace("model.", "language_model.model.", 1): tensor for name, tensor in loaded(base).items()}
    del tensors["lm_head.weight"]
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    config = json.loads((base / "config.json").read_text()) | {"tie_word_embeddings": True}
    (base / "config.json").write_text(json.dumps(config))
    adapter, rows = _adapter(tmp_path / "adapter", base), torch.randn(TOKENS, HIDDEN)
    _stored(
        adapter, {"model.language_model.embed_tokens.weight": rows, "lm_head.weight": rows.clone()}
    )  # tied in training
    found = read_in_runs(adapter)
    heads = [name for name in found if name.endswith("lm_head.weight")]
    assert heads == ["language_model.lm_head.weight"]
    assert found["language_model.model.embed_tokens.weight"].equal(rows)
    assert found[heads[0]].equal(rows)


@pytest.mark.parametrize(
    ("tensors", "settings", "words"),
    [
        ({}, {}, "it holds no tensors, so its training is lost"),
        ({f"{Q}.lora_A.weight": torch.ones(0)}, {}, f"no numbers are in base_model.model.{Q}.lora_A.weight"),
        (
            {f"{Q}.lora_A.other.weight": torch.ones(RANK, HIDDEN)},
            {},
            r"has the name of the adapter in it \(other\), so it was not written by save_pretrained",
        ),
        (
            {"mlp.experts.lora_A.weight": torch.ones(8, HIDDEN), "mlp.experts.lora_B.weight": torch.ones(HIDDEN, 8)},
            {"target_parameters": ["mlp.experts.down_proj"]},
            r"parameters that are no linear layers \(target_parameters: mlp\.experts\.down_proj\), and it is not known where "
            r"they are in the model's file: mlp\.experts\.down_proj: the model .* has no tensor.*merge_and_unload",
        ),
        (
            {f"{Q}.lora_A.weight": torch.ones(2, 2, dtype=torch.int8)},
            {},
            r"lora_A\.weight is int8; what an adapter trains",
        ),
        ({}, {"peft_type": "PREFIX_TUNING"}, "changes no weights: .* train LoRA"),
    ],
)
def test_adapters_that_cannot_be_merged_say_why(
    tensors: dict[str, Tensor], settings: dict[str, Any], words: str, base: Path, tmp_path: Path
) -> None:
    adapter = _adapter(tmp_path / "adapter", base, **settings)
    _stored(adapter, tensors)
    with pytest.raises(MergeError, match=words):
        open_source(adapter)


def test_what_is_wrong_with_the_model_under_an_adapter_is_said_of_it(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "adapter", base)
    save_file({"x.weight": torch.ones(2, 2), "x.weight.absmax": torch.ones(2)}, base / "model.safetensors")
    with pytest.raises(MergeError, match=rf"base: is quantised .* model under the adapter {adapter}; `onto` names"):
        open_source(adapter)


def test_factors_are_not_merged_as_a_model(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "adapter", base)
    words = rf"adapter.*: holds factors of LoRA .*{Q}\.lora_A and lora_B.*, with its adapter_config\.json"
    with pytest.raises(MergeError, match=words):
        open_source(adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(MergeError, match=words):
        merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")


def test_mismatched_adapters_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "adapter", base)
    file = adapter / "adapter_model.safetensors"
    whole = load_file(file)

    def refused(words: str, **changes: Tensor | None) -> None:
        tensors = {**whole, **{f"base_model.model.{name.replace('__', '.')}": t for name, t in changes.items()}}
        save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
        with pytest.raises(MergeError, match=words):
            open_source(adapter)

    down, up = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"
    refused("has lora_B without its other half", **{down: None})
    refused(r"the adapter's is \[16, 8\], the model's float32 \[16, 16\]", **{down: torch.ones(RANK, 8)})
    refused("only linear layers and embeddings", **{down: torch.ones(RANK, 16, 1)})
    refused(
        "changes model.layers.9.x.weight, which the model",
        **{
            "model.layers.9.x.lora_A.weight": torch.ones(RANK, 16),
            "model.layers.9.x.lora_B.weight": torch.ones(16, RANK),
        },
    )
    refused("is neither LoRA's nor in the model", **{f"{Q}.lora_magnitude_vector": torch.ones(16)})
    rows = {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": torch.ones(2, HIDDEN)}
    refused(r"their values are \[2, 16\], for 0 tokens", **rows)
    _with_tokens(adapter, [TOKENS + 1, 3])
    refused(rf"has {TOKENS} rows, of which they are not the next", **rows)
    _with_tokens(adapter, [TOKENS, 3])
    twice = {f"{EMBEDDING}.weight": torch.ones(TOKENS, HIDDEN)}
    refused("changes model.embed_tokens.weight in two ways", **rows, **twice)
    refused("whose x.weight is not in it", **{"x.token_adapter.trainable_tokens_delta": torch.ones(2, HIDDEN)})
    refused(r"tensor lm_head.weight: the adapter's is \[2, 16\]", **{"lm_head.weight": torch.ones(2, 16)})
    assert up
    file.unlink()
    with pytest.raises(MergeError, match=r"holds no adapter_model.safetensors: save"):
        open_source(adapter)
    (adapter / "adapter_model.bin").touch()
    with pytest.raises(MergeError, match="is pickled and never read"):
        open_source(adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(MergeError, match="is not JSON"):
        open_source(adapter)


def _with_tokens(adapter: Path, tokens: list[int]) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"trainable_token_indices": tokens}))


@pytest.mark.parametrize("run", [5, 100, 10_000])
def test_token_rows_stand_in_place_of_the_models_and_behind_them(base: Path, tmp_path: Path, run: int) -> None:
    adapter = _adapter(tmp_path / "adapter", base)
    tokens = [TOKENS + 1, 7, TOKENS]
    rows = torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(0))
    stored = load_file(adapter / "adapter_model.safetensors")
    name = f"base_model.model.{EMBEDDING}.token_adapter.trainable_tokens_delta"
    save_file({**stored, name: rows}, adapter / "adapter_model.safetensors")
    _with_tokens(adapter, tokens)
    expected = torch.cat([loaded(base)[f"{EMBEDDING}.weight"], torch.zeros(2, HIDDEN)])
    expected[tokens] = rows
    assert read_in_runs(adapter, run=run)[f"{EMBEDDING}.weight"].equal(expected)


def test_an_adapter_that_changes_while_it_is_read(base: Path, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "adapter", base)
    with LoraFolder(adapter, base) as source:
        source.check_unchanged()
        (adapter / "adapter_config.json").write_text("{}")
        with pytest.raises(MergeError, match="was changed while it was read"):
            source.check_unchanged()


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": "all-linear", "use_rslora": True},
        {"target_modules": ["embed_tokens", "down_proj", "o_proj"], "alpha_pattern": {"o_proj": 32}},
        {"target_modules": ["up_proj"], "modules_to_save": ["lm_head"], "rank_pattern": {"layers.1.mlp.up_proj": 2}},
        {"target_modules": ["up_proj"], "trainable_token_indices": [2, 47, 5]},
        {"target_modules": ["up_proj"], "trainable_token_indices": {"lm_head": [0, 1]}},
    ],
    ids=str,
)
def test_gives_the_same_weights_as_peft(settings: dict[str, Any], base: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(base)
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=12, task_type="CAUSAL_LM", **settings))
        for parameter in adapted.parameters():
            if parameter.requires_grad:  # peft initialises B to zero
                parameter.data += 0.1 * torch.randn_like(parameter)
        adapted.save_pretrained(tmp_path / "adapter")
        adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    found, expected = read_in_runs(tmp_path / "adapter"), loaded(tmp_path / "merged")
    assert found.keys() == expected.keys()
    changed = [name for name, tensor in loaded(base).items() if not tensor.equal(expected[name])]
    assert changed
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected[name], rtol=1e-6, atol=1e-6), name
