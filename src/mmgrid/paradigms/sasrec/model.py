"""SASRec: self-attention over item embeddings, as a Hugging Face model.

Source: Kang and McAuley 2018, with cross-entropy over the whole catalogue, which later work found better.

Shape letters: B users, L history, D width, N items, T targets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

MODEL_TYPE = "mmgrid_sasrec"


class SasrecConfig(PreTrainedConfig):
    """Shape of a SASRec over a catalogue of `n_items` items."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        n_items: int = 1,
        hidden_size: int = 64,
        layers: int = 2,
        heads: int = 2,
        intermediate_size: int = 256,
        dropout: float = 0.2,
        history_length: int = 25,
        initializer_range: float = 0.02,
        **options,
    ):
        self.n_items = n_items
        self.hidden_size = hidden_size
        self.layers = layers
        self.heads = heads
        self.intermediate_size = intermediate_size
        self.dropout = dropout
        self.history_length = history_length
        self.initializer_range = initializer_range
        super().__init__(**options)


class SasrecModel(PreTrainedModel):
    """Item embeddings, positions, causal self-attention; an item's score is a dot product with its embedding."""

    config_class = SasrecConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True

    def __init__(self, config: SasrecConfig):
        super().__init__(config)
        self.items = nn.Embedding(config.n_items, config.hidden_size)
        self.positions = nn.Embedding(config.history_length, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.items

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def encode_users(self, history: Tensor) -> Tensor:
        """Item rows int64 [B, L], oldest first, padded at the end → user vectors [B, L, D], causal."""
        places = torch.arange(history.shape[1], device=history.device)
        hidden = self.dropout(self.norm(self.items(history) + self.positions(places)))
        for block in self.blocks:
            hidden = block(hidden)
        return hidden

    def forward(self, sequences: Tensor, is_target: Tensor, closed: Tensor) -> Tensor:
        """Mean cross-entropy over the catalogue.

        Args:
            sequences: int64 [B, L + 1].
            is_target: bool [B, L], whether the next item is a target.
            closed: bool [N], items that are no candidates; the softmax leaves them out.
        """
        return F.cross_entropy(*self.predictions(sequences, is_target, closed))

    def predictions(self, sequences: Tensor, is_target: Tensor, closed: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of all items [T, N], and the targets [T]; arguments as in `forward`."""
        users = self.encode_users(sequences[:, :-1])[is_target]
        logits = (users @ self.items.weight.T).float().masked_fill(closed, float("-inf"))
        return logits, sequences[:, 1:][is_target]


class _Block(GradientCheckpointingLayer):
    """Causal self-attention and a two-layer network, each followed by dropout, residual and norm."""

    def __init__(self, config: SasrecConfig):
        super().__init__()
        width = config.hidden_size
        self.heads = config.heads
        self.dropout_rate = config.dropout
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, config.intermediate_size)
        self.outer = nn.Linear(config.intermediate_size, width)
        self.network_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        B, L, D = hidden.shape
        split = self.query_key_value(hidden).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout_rate if self.training else 0.0
        attended = F.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=True, dropout_p=dropout)
        attended = self.out(attended.transpose(1, 2).reshape(B, L, D))
        hidden = self.attention_norm(hidden + self.dropout(attended))
        return self.network_norm(hidden + self.dropout(self.outer(F.gelu(self.inner(hidden)))))


AutoConfig.register(MODEL_TYPE, SasrecConfig)
AutoModel.register(SasrecConfig, SasrecModel)
