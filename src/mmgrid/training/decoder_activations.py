"""The memory that a decoder's activations take in training: what its backward pass needs, before anything is computed.

A decoder of one and of two layers reads one row and two rows without data (fake tensors), and what autograd keeps is
counted. All other sizes follow: what is kept grows with the layers and with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from mmgrid.backbone.shape import DROPOUTS, Shape
from mmgrid.training.activations import keeping

_KINDS = frozenset(
    [
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "starcoder2",
    ]
)  # decoders that Transformers reads as `_kept` asks them, and makes from the numbers of a shape


@dataclass(frozen=True)
class Activations:
    """Bytes that a decoder keeps.

    layer, layer_row: of a layer, whatever the rows, and for each row. rest, rest_row: beside the layers.
    layer_input_row: a layer's input, which is all that stays of it if activations are computed again.
    """

    layer: int
    layer_row: int
    rest: int
    rest_row: int
    layer_input_row: int

    def bytes(self, layers: int, rows: float, recomputed: bool = False) -> float:
        """For so many layers and rows. recomputed: layers keep their inputs, and one at a time is computed again."""
        beside = self.rest + rows * self.rest_row
        whole = self.layer + rows * self.layer_row
        if recomputed:
            return beside + layers * rows * self.layer_input_row + whole
        return beside + layers * whole


@cache
def activations(shape: Shape, width: int, precision: str) -> Activations:
    """What a decoder of this shape keeps of rows of `width` tokens, without its head; `precision` as in a recipe."""
    one, two = ([_kept(shape.of_layers(layers), rows, width, precision) for rows in (1, 2)] for layers in (1, 2))
    layer_row = (two[1] - two[0]) - (one[1] - one[0])
    layer = two[0] - one[0] - layer_row
    rest_row = one[1] - one[0] - layer_row
    rest = one[0] - layer - layer_row - rest_row
    return Activations(layer, layer_row, rest, rest_row, width * shape.hidden * 4)


def _kept(shape: Shape, rows: int, width: int, precision: str) -> int:
    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        model = AutoModel.from_config(config_of(shape), dtype=torch.float32).train()
        states = torch.empty(rows, width, shape.hidden, requires_grad=True)
        visible = torch.ones(rows, 1, width, width, dtype=torch.bool)
        with keeping(model.parameters()) as kept, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            last = model(
                inputs_embeds=states,
                attention_mask=visible,
                position_ids=torch.zeros(rows, width, dtype=torch.long),
                use_cache=False,
            ).last_hidden_state
        del last
    return kept.bytes


def config_of(shape: Shape) -> PreTrainedConfig:
    """A config of this shape, for a model of Transformers: of its own kind, or of one that keeps about as much."""
    kind = shape.kind if shape.kind in _KINDS else ("qwen3" if shape.gated else "gpt_neox")
    hidden = shape.hidden if shape.gated else shape.heads * shape.head_width
    found = AutoConfig.for_model(
        kind,
        vocab_size=64,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_width,
        use_parallel_residual=kind == shape.kind,  # of GPT-NeoX; models that it stands in for have none
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **dict.fromkeys(("hidden_size", "word_embed_proj_dim"), hidden),
        **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner"), shape.intermediate),
        **({} if shape.gated else dict.fromkeys(("hidden_act", "activation_function"), shape.activation)),
    )
    for key in found.to_dict():
        if key.endswith(DROPOUTS):
            setattr(found, key, 0.1 if key in shape.dropouts else 0.0)
    return found
