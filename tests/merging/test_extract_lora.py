"""The difference of two models as a LoRA adapter, by its largest directions."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kits.tiny_grid import mmgrid
from kits.tiny_llama import HIDDEN, loaded, tiny_llama
from mmgrid.merging import MergeError, merge
from mmgrid.merging.extract_lora import extract_lora
from mmgrid.merging.methods.linear_algebra import directions, leading_directions

Q, NORM, EMBEDDINGS = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.input_layernorm.weight",
    "model.embed_tokens.weight",
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "base", 0, layers=2)


def _tuned(folder: Path, base: Path, changes: dict[str, Tensor]) -> Path:
    tiny_llama(folder, 0, layers=2)
    tensors = loaded(base)
    for name, change in changes.items():
        tensors[name] = tensors[name] + change
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def _low(rows: int, columns: int, rank: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)


def test_a_change_of_low_rank_is_found_exactly_and_read_back(base: Path, tmp_path: Path) -> None:
    changes = {Q: _low(HIDDEN, HIDDEN, 2), EMBEDDINGS: _low(48, HIDDEN, 3), NORM: torch.ones(HIDDEN)}
    tuned = _tuned(tmp_path / "tuned", base, changes)
    report = extract_lora(tuned, base, tmp_path / "adapter", rank=4)
    assert report.tensors[Q].rank == 2
    assert report.tensors[EMBEDDINGS].rank == 3
    assert report.tensors[NORM].rank == 0
    assert report.error < 1e-6
    merge({"method": "linear", "sources": [{"path": str(tmp_path / "adapter")}]}, tmp_path / "out")
    for name, tensor in loaded(tmp_path / "out").items():
        torch.testing.assert_close(tensor, loaded(tuned)[name], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("search", ["exact", "randomised"])
def test_the_rank_bounds_the_error_as_theory_says(search: str, base: Path, tmp_path: Path) -> None:
    change = _low(HIDDEN, HIDDEN, HIDDEN)
    tuned = _tuned(tmp_path / "tuned", base, {Q: change})
    report = extract_lora(tuned, base, tmp_path / "adapter", rank=5, search=search)  # type: ignore[arg-type]
    sizes = np.linalg.svd((loaded(tuned)[Q] - loaded(base)[Q]).double().numpy(), compute_uv=False)
    assert report.error == pytest.approx(np.sqrt((sizes[5:] ** 2).sum() / (sizes**2).sum()), rel=1e-3)
    factors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    stem = f"base_model.model.{Q.removesuffix('.weight')}"
    product = factors[f"{stem}.lora_B.weight"] @ factors[f"{stem}.lora_A.weight"]
    missing = float((change - product).norm() / change.norm())
    assert missing == pytest.approx(report.error, rel=1e-3)


def test_the_search_finds_the_largest_directions() -> None:
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.normal(size=(n, 60)))[0] for n in (300, 200))
    matrix = ((left * 0.8 ** np.arange(60)) @ right.T).astype(np.float64)
    exact, searched = directions(matrix).top(12), leading_directions(matrix, 12)
    np.testing.assert_allclose(searched.sizes, exact.sizes, rtol=1e-6)
    np.testing.assert_allclose(searched.matrix(), exact.matrix(), atol=1e-5)


@pytest.mark.parametrize("search", ["exact", "randomised"])
def test_a_share_of_the_energy_takes_the_fewest_ranks(search: str, base: Path, tmp_path: Path) -> None:
    left, right = (torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, dtype=torch.float64))[0] for _ in range(2))
    sizes = torch.zeros(HIDDEN, dtype=torch.float64)
    sizes[:4] = torch.tensor([8.0, 4.0, 2.0, 1.0])
    tuned = _tuned(tmp_path / "tuned", base, {Q: (left @ torch.diag(sizes) @ right).float()})
    for energy, rank in ((0.7, 1), (0.9, 2), (0.98, 3), (1.0, 4)):
        report = extract_lora(tuned, base, tmp_path / f"{energy}", energy=energy * (1 - 1e-5), search=search)  # type: ignore[arg-type]
        assert report.tensors[Q].rank == rank
    few = extract_lora(tuned, base, tmp_path / "few", energy=1.0, ranks={"*.q_proj.*": 2})
    assert few.tensors[Q].rank == 2


def test_peft_reads_the_adapter(base: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    changes = {Q: _low(HIDDEN, HIDDEN, 2), EMBEDDINGS: _low(48, HIDDEN, 3), NORM: torch.ones(HIDDEN)}
    changes["model.layers.1.mlp.down_proj.weight"] = _low(HIDDEN, 24, 1)
    tuned = _tuned(tmp_path / "tuned", base, changes)
    extract_lora(tuned, base, tmp_path / "adapter", rank=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        whole = AutoModelForCausalLM.from_pretrained(tuned).eval()
        adapted = peft.PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"
        ).eval()
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(adapted(tokens).logits, whole(tokens).logits, atol=1e-4, rtol=1e-4)


def _logits(model: Any, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(tokens).logits


@pytest.mark.parametrize("kind", ["tied llama", "one norm", "gpt2"])
def test_peft_and_a_merge_give_the_model_back(kind: str, tmp_path: Path) -> None:
    """A tied head, a norm whose name ends like others, and GPT-2, whose matrices are stored [in, out]."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        if kind == "gpt2":
            model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2))
        else:
            sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
            model = LlamaForCausalLM(LlamaConfig(vocab_size=40, tie_word_embeddings=kind == "tied llama", **sizes))
        model.save_pretrained(tmp_path / "base")
        changed = ["model.norm.weight", Q] if kind == "one norm" else [name for name, _ in model.named_parameters()]
        for name, parameter in model.named_parameters():
            if name in changed and not (kind == "gpt2" and name.endswith("bias") and "ln" not in name):
                parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / "tuned")
        tokens = torch.arange(12)[None]
        expected = _logits(model, tokens)
        report = extract_lora(tmp_path / "tuned", tmp_path / "base", tmp_path / "adapter", rank=64)
        assert report.error < 1e-5
        assert not report.left_out
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        adapted = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
        torch.testing.assert_close(_logits(adapted, tokens), expected, atol=1e-4, rtol=1e-4)
        merge({"method": "linear", "sources": [{"path": str(tmp_path / "adapter")}]}, tmp_path / "merged")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(_logits(merged, tokens), expected, atol=1e-4, rtol=1e-4)


def test_a_resized_vocabulary_is_kept_whole(base: Path, tmp_path: Path) -> None:
    tuned = _tuned(tmp_path / "tuned", base, {Q: _low(HIDDEN, HIDDEN, 1)})
    tensors = loaded(tuned)
    for name in (EMBEDDINGS, "lm_head.weight"):
        tensors[name] = torch.cat([tensors[name], torch.ones(2, HIDDEN)])
    save_file(tensors, tuned / "model.safetensors", {"format": "pt"})
    extract_lora(tuned, base, tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["modules_to_save"] == ["lm_head", "model.embed_tokens"]
    merge({"method": "linear", "sources": [{"path": str(tmp_path / "adapter")}]}, tmp_path / "out")
    assert loaded(tmp_path / "out")[EMBEDDINGS].equal(tensors[EMBEDDINGS])


def test_what_lora_has_no_place_for_is_left_out_and_counted(base: Path, tmp_path: Path) -> None:
    bias, loose = Q.replace("weight", "bias"), "temperature"
    for folder in (base, tmp_path / "tuned"):
        tensors = loaded(tiny_llama(folder, 0, layers=2)) | {bias: torch.zeros(HIDDEN), loose: torch.zeros(1)}
        if folder != base:
            tensors[Q] += _low(HIDDEN, HIDDEN, 1)
            tensors[bias] += 1
            tensors[loose] += 3
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    report = extract_lora(tmp_path / "tuned", base, tmp_path / "adapter")
    assert report.left_out == {
        bias: "a bias beside a matrix: LoRA has none",
        loose: "belongs to no module that PEFT could save",
    }
    whole = sum(each.norm**2 for each in report.tensors.values())
    assert report.error == pytest.approx(np.sqrt((HIDDEN + 9) / whole), rel=1e-4)


def test_a_change_that_lora_has_no_place_for_is_a_change(base: Path, tmp_path: Path) -> None:
    for folder in (base, tmp_path / "tuned"):
        tensors = loaded(tiny_llama(folder, 0, layers=2)) | {"temperature": torch.full((1,), float(folder != base))}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        MergeError, match=r"differs from .* in no matrix that LoRA has a place for, only in temperature;"
    ):
        extract_lora(tmp_path / "tuned", base, tmp_path / "adapter")


def test_the_type_of_the_adapter(base: Path, tmp_path: Path) -> None:
    tuned = _tuned(tmp_path / "tuned", base, {Q: _low(HIDDEN, HIDDEN, 2)})
    extract_lora(tuned, base, tmp_path / "adapter", dtype="bfloat16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "adapter/adapter_model.safetensors").values()} == {
        torch.bfloat16
    }


def test_what_cannot_be_extracted_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="there is nothing to extract"):
        extract_lora(_tuned(tmp_path / "same", base, {}), base, tmp_path / "out")
    other = tiny_llama(tmp_path / "other", 1, layers=1)
    with pytest.raises(MergeError, match=r"the model lacks model\.layers\.1"):
        extract_lora(other, base, tmp_path / "out")
    for wrong, words in (
        ({"energy": 1.5}, "energy: 1.5 must"),
        ({"rank": 0}, "rank: must"),
        ({"dtype": "int8"}, "dtype"),
    ):
        with pytest.raises(MergeError, match=words):
            extract_lora(other, base, tmp_path / "out", **wrong)  # type: ignore[arg-type]
    with pytest.raises(
        MergeError, match=r"in no matrix that LoRA has a place for, only in model\.layers\.0\.input_lay"
    ):
        extract_lora(_tuned(tmp_path / "norms", base, {NORM: torch.ones(HIDDEN)}), base, tmp_path / "out")
    with pytest.raises(MergeError, match="NaN or an infinity"):
        extract_lora(_tuned(tmp_path / "nan", base, {Q: torch.tensor(torch.nan)}), base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(base: Path, tmp_path: Path) -> None:
    tuned = _tuned(tmp_path / "tuned", base, {Q: _low(HIDDEN, HIDDEN, 2), NORM: torch.ones(HIDDEN)})
    answer = mmgrid("extract-lora", tuned, "--base", base, "-o", tmp_path / "adapter", "--ranks", "*.q_proj.*=1")
    assert answer.code == 0, answer.err
    assert "1 matrices, rank 1, 1 tensors kept whole" in answer.out
    facts = mmgrid("extract-lora", tuned, "--base", base, "-o", tmp_path / "again", "--json").json
    assert facts["tensors"][Q]["rank"] == 2
    assert "must be PATTERN=N" in mmgrid("extract-lora", tuned, "--base", base, "-o", "x", "--ranks", "q=0").err
