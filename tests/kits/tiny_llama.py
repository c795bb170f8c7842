"""A tiny Llama as a Hugging Face folder, fast to merge."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

HIDDEN, INNER, HEADS, TOKENS = 16, 24, 2, 48


def tiny_llama(
    folder: Path,
    seed: int,
    *,
    layers: int = 4,
    dtype: torch.dtype = torch.float32,
    near: Path | None = None,
    vocabulary: Mapping[str, int] | None = None,
) -> Path:
    """Writes a model with random weights, or with small changes to the weights of `near`."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"model.embed_tokens.weight": (TOKENS, HIDDEN), "model.norm.weight": (HIDDEN,)}
    shapes["lm_head.weight"] = (TOKENS, HIDDEN)
    for n in range(layers):
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
            shapes[f"model.layers.{n}.{name}.weight"] = (HIDDEN, HIDDEN)
        for name, shape in (("gate", (INNER, HIDDEN)), ("up", (INNER, HIDDEN)), ("down", (HIDDEN, INNER))):
            shapes[f"model.layers.{n}.mlp.{name}_proj.weight"] = shape
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{n}.{name}.weight"] = (HIDDEN,)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if near is not None:
        below = loaded(near)
        tensors = {name: below[name].float() + 0.1 * tensor for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": TOKENS,
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokens = vocabulary or {f"t{n}": n for n in range(TOKENS)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": tokens, "unk_token": "t0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def tiny_llamas(folder: Path, names: str = "ab") -> Path:
    """Writes `base`, and models with names of one letter near it, into a folder."""
    base = tiny_llama(folder / "base", 0)
    for seed, name in enumerate(names, 1):
        tiny_llama(folder / name, seed, near=base)
    return folder


def loaded(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def with_settings(folder: Path, **settings: object) -> Path:
    """Writes other settings into a model's config; returns its folder."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def linear(*models: Path, **more: object) -> dict[str, object]:
    """The recipe of a linear merge of these folders. more: its other keys."""
    return {"method": "linear", "sources": [{"path": str(model)} for model in models], **more}
