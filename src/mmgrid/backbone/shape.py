"""The shape of a decoder: what its number of weights and its arithmetic follow from. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgrid.files.foreign import MALFORMED

_OTHER_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "ffn_dim": "intermediate_size",
    "activation_function": "hidden_act",
}
_FOUR_TIMES = ("gpt2", "gptj", "bloom")  # as wide as their feed-forward layers are where they do not say it
_UNGATED = (*_FOUR_TIMES, "gpt_neox", "gpt_neo", "phi", "opt", "starcoder2", "bert", "roberta", "xlm-roberta", "mpnet")
DROPOUTS = ("dropout", "pdrop")  # ends of the keys of a config


@dataclass(frozen=True)
class Shape:
    """A decoder with grouped queries and gated feed-forward layers, as Qwen, Llama and Mistral have them.

    layers, hidden, intermediate, heads, key_value_heads, head_width: as usual. vocabulary: rows of the token table.
    tied: whether the head is the token table. normed_heads: whether queries and keys have norms of their own.
    gated: whether feed-forward layers have a gate; those of GPT-2, GPT-NeoX and Phi have none. activation: between the
    matrices of one without a gate, as Transformers calls it. kind: the `model_type` of its config. dropouts: the keys of
    its config that name a dropout above 0.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_width: int
    vocabulary: int
    tied: bool = True
    normed_heads: bool = True
    gated: bool = True
    activation: str = "silu"
    kind: str = "qwen3"
    dropouts: tuple[str, ...] = ()

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Shape:
        """From the content of a `config.json`.

        Raises:
            ValueError: it is the config of another kind of model, such as a mixture of experts.
        """
        experts = next((key for key in config if key.endswith("experts") and config[key]), None)
        if experts is not None:
            raise ValueError(f"this config.json is of a mixture of experts ({experts} = {config[experts]})")
        kind = str(config.get("model_type", ""))
        config = {_OTHER_NAMES.get(key, key): value for key, value in config.items() if value is not None}
        try:
            heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
            if kind in _FOUR_TIMES:
                config.setdefault("intermediate_size", 4 * hidden)
            return cls(
                layers=int(config["num_hidden_layers"]),
                hidden=hidden,
                intermediate=int(config["intermediate_size"]),
                heads=heads,
                key_value_heads=int(config.get("num_key_value_heads") or heads),
                head_width=int(config.get("head_dim") or hidden // heads),
                vocabulary=int(config["vocab_size"]),
                tied=bool(config.get("tie_word_embeddings", True)),
                normed_heads=kind.startswith("qwen3"),
                gated=kind not in _UNGATED,
                activation=str(config.get("hidden_act", "gelu_new")) if kind in _UNGATED else cls.activation,
                kind=kind,
                dropouts=tuple(sorted(key for key in config if key.endswith(DROPOUTS) and config[key])),
            )
        except MALFORMED as error:
            raise ValueError(f"this config.json is of no decoder with {error}") from None

    @property
    def linear_layers(self) -> Mapping[str, tuple[int, int]]:
        """The linear layers of one layer: name → numbers of what goes in and out."""
        queries, keys = self.heads * self.head_width, self.key_value_heads * self.head_width
        return {
            "self_attn.q_proj": (self.hidden, queries),
            "self_attn.k_proj": (self.hidden, keys),
            "self_attn.v_proj": (self.hidden, keys),
            "self_attn.o_proj": (queries, self.hidden),
            **({"mlp.gate_proj": (self.hidden, self.intermediate)} if self.gated else {}),
            "mlp.up_proj": (self.hidden, self.intermediate),
            "mlp.down_proj": (self.intermediate, self.hidden),
        }

    @property
    def layer_matrices(self) -> int:
        """Weights of one layer's matrices."""
        return sum(inward * outward for inward, outward in self.linear_layers.values())

    @property
    def layer_weights(self) -> int:
        """Weights of one layer, with its norms."""
        return self.layer_matrices + 2 * self.hidden + (2 * self.head_width if self.normed_heads else 0)

    @property
    def body_weights(self) -> int:
        """Weights of all layers and the last norm, without token table and head."""
        return self.layers * self.layer_weights + self.hidden

    @property
    def table_weights(self) -> int:
        """Weights of the token table."""
        return self.vocabulary * self.hidden

    @property
    def weights(self) -> int:
        """All weights, with the head."""
        return self.body_weights + self.table_weights * (1 if self.tied else 2)

    def of_layers(self, layers: int) -> Shape:
        """The same shape with another number of layers."""
        return replace(self, layers=layers)

    def forward(self, tokens: float, width: float) -> float:
        """Floating-point operations of the layers for so many tokens, in rows of `width` tokens."""
        attention = 4 * width * self.heads * self.head_width  # scores and mixing
        return tokens * self.layers * (2 * self.layer_matrices + attention)

    def head(self, places: float, choices: float | None = None) -> float:
        """Floating-point operations of the logits of so many places, over the vocabulary or over `choices`."""
        return 2.0 * places * self.hidden * (self.vocabulary if choices is None else choices)


KNOWN = {
    "Qwen/Qwen3-0.6B": Shape(28, 1024, 3072, 16, 8, 128, 151936),
    "Qwen/Qwen3-1.7B": Shape(28, 2048, 6144, 16, 8, 128, 151936),
    "Qwen/Qwen3-4B": Shape(36, 2560, 9728, 32, 8, 128, 151936),
    "Qwen/Qwen3-8B": Shape(36, 4096, 12288, 32, 8, 128, 151936, tied=False),
    "Qwen/Qwen3-Embedding-0.6B": Shape(28, 1024, 3072, 16, 8, 128, 151669),
    "Qwen/Qwen3-Embedding-4B": Shape(36, 2560, 9728, 32, 8, 128, 151665),
    "Qwen/Qwen3-Embedding-8B": Shape(36, 4096, 12288, 32, 8, 128, 151665),
    "HuggingFaceTB/SmolLM2-135M": Shape(30, 576, 1536, 9, 3, 64, 49152, normed_heads=False, kind="llama"),
    "HuggingFaceTB/SmolLM2-360M": Shape(32, 960, 2560, 15, 5, 64, 49152, normed_heads=False, kind="llama"),
}
"""Shapes of models on the Hugging Face hub, from their `config.json`, for machines that have not downloaded them."""


def shape_of(model: str | Path) -> Shape | None:
    """The shape of a model in a folder, or of one on the hub that is known or downloaded; None if there is none."""
    name = str(model)
    file = Path(model) / "config.json"
    if not file.is_file():
        for known in (name, name.removesuffix("-Base"), name.removesuffix("-Instruct")):
            if known in KNOWN:
                return KNOWN[known]
        found = _downloaded(name)
        if found is None:
            return None
        file = found
    try:
        return Shape.of_config(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _downloaded(name: str) -> Path | None:
    """The `config.json` of a model in the hub's cache on this machine."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
