"""The two-tower model of the semantic-embedding paradigm, as a normal Hugging Face model.

Item tower: the whole backbone reads an item's text and one learned [ITEM] vector; the last hidden state at [ITEM] is
the item's vector. User tower: the backbone's first and last layer, without token embeddings, reads the item vectors of
a history. Source: HLLM (Chen et al. 2024, arXiv 2409.12740).

Shape letters: B users, L history, D width, U distinct items, R × W packed rows, T targets, M negatives.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from mmgrid.backbone.load import BackboneError
from mmgrid.paradigms.shared.layer_masks import layer_masks
from mmgrid.paradigms.shared.packing import TokenTable, end_to_end, is_varlen, pack, sequence_lengths
from mmgrid.seeds import derive
from mmgrid.training.exchange import gathered, most_of

MODEL_TYPE = "mmgrid_semb"
FIRST_SCALE = math.log(1 / 0.07)
LARGEST_SCALE = math.log(100.0)
SAME_ITEM_COSINE = 0.99  # a negative with a higher cosine to the positive counts as the same item, and is masked


class SembConfig(PreTrainedConfig):
    """The configs of both towers, and the values that turn an item into the item tower's input."""

    model_type = MODEL_TYPE
    text_keys: "list[str] | None" = None
    prompt_counts: bool = False
    sub_configs = {"item_config": AutoConfig, "user_config": AutoConfig}  # pyright: ignore

    def __init__(
        self,
        item_config: dict[str, Any] | PreTrainedConfig | None = None,
        user_config: dict[str, Any] | PreTrainedConfig | None = None,
        prompt: str = "",
        text_tokens: int = 64,
        title_tokens: int = 48,
        history_length: int = 25,
        text_keys: list[str] | None = None,
        prompt_counts: bool = False,
        **options: Any,
    ):
        """Args:
        text_keys: read items as HLLM's official code does, from these fields; None reads them as semb does.
        prompt_counts: whether the prompt's tokens are among the `text_tokens`.
        """
        self.item_config = _as_config(item_config)
        self.user_config = _as_config(user_config)
        self.prompt = prompt
        self.text_tokens = text_tokens
        self.title_tokens = title_tokens
        self.history_length = history_length
        if text_keys:  # else absent, as in older checkpoints
            self.text_keys = text_keys
        if prompt_counts:  # likewise
            self.prompt_counts = prompt_counts
        super().__init__(**options)

    @classmethod
    def over(cls, backbone: PreTrainedConfig, **options: Any) -> "SembConfig":
        """The config of an untrained model: the backbone's, and one for its first and last layer."""
        item = backbone.to_dict() | {"_name_or_path": ""}  # the path that it was loaded from
        user = item | {"num_hidden_layers": 2, "vocab_size": 1, "pad_token_id": None}
        if user.get("layer_types"):
            user["layer_types"] = [user["layer_types"][0], user["layer_types"][-1]]
        return cls(item_config=item, user_config=user, **options)


class SembModel(PreTrainedModel):
    """Item tower, user tower, the [ITEM] vector, and the logarithm of the cosine's scale (1 / temperature).

    rows_at_once: packed rows whose activations training holds at once; None for all of a part.
    parts: in how many parts, of items and of users, a batch is computed; the loss and its gradients stay the same.
    """

    config_class = SembConfig
    config: SembConfig
    base_model_prefix = ""
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    def __init__(self, config: SembConfig):
        super().__init__(config)
        self.item_tower = AutoModel.from_config(config.item_config)
        self.user_tower = AutoModel.from_config(config.user_config)
        self.user_tower.set_input_embeddings(nn.Identity())  # it reads vectors, never tokens
        self.item_token = nn.Parameter(torch.zeros(config.item_config.hidden_size))
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        self.rows_at_once: int | None = None
        self.parts = 1
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.item_tower.get_input_embeddings()

    @classmethod
    def over(cls, backbone: PreTrainedModel, seed: int, **options: Any) -> "SembModel":
        """Θ⁽⁰⁾: both towers copied from `backbone` (without its LM head), [ITEM] drawn from `seed`.

        Raises BackboneError if the backbone's layers have other names, or if it cannot read packed items.
        """
        weights = backbone.state_dict()
        if not {"embed_tokens", "layers"} <= {name.partition(".")[0] for name in weights}:
            raise BackboneError(
                f"a {backbone.config.model_type} cannot be the backbone of semb: it must be a decoder whose weights "
                "are called embed_tokens and layers, without a language-model head, as in Qwen, Llama and Mistral"
            )
        model = cls(SembConfig.over(backbone.config, **options))
        model.item_tower.load_state_dict(weights)
        model.user_tower.load_state_dict(_first_and_last_layer(weights, backbone.config.num_hidden_layers))
        spread = float(getattr(backbone.config, "initializer_range", 0.02))
        draw = torch.Generator().manual_seed(derive(seed, "semb item token"))
        with torch.no_grad():
            model.item_token.copy_(torch.randn(model.item_token.shape, generator=draw) * spread)
        model._check_packing()
        return model

    @torch.no_grad()
    def _check_packing(self) -> None:
        """Raise BackboneError if an item's vector depends on the items packed with it.

        It does if layers mix tokens by anything but masked attention (convolutions, recurrent states), or ignore
        `position_ids`.
        """
        self.eval()
        tokens = np.arange(self.item_tower.get_input_embeddings().weight.shape[0])[:16]
        table = TokenTable.of(tokens[:3], [tokens[3:7], tokens[7:]])
        together = self.encode_items(**pack(table, np.array([0, 1])).tensors())
        alone = torch.cat([self.encode_items(**pack(table, np.array([row]), 1).tensors()) for row in (0, 1)])
        if not torch.allclose(together, alone, rtol=0, atol=1e-3 * float(alone.abs().max())):
            raise BackboneError(
                f"a {self.config.item_config.model_type} cannot be the backbone of semb: an item's vector "
                "depends on other items in the row, so items cannot be packed; use a decoder with plain attention, "
                "such as Qwen"
            )

    def encode_items(self, input_ids: Tensor, position_ids: Tensor, segments: Tensor, item_places: Tensor) -> Tensor:
        """Packed rows [R, W] → item vectors float [U, D]."""
        embedded = self.item_tower.get_input_embeddings()(input_ids)
        flat = embedded.reshape(-1, embedded.shape[-1])
        token = self.item_token.to(flat.dtype).expand(len(item_places), -1)
        embedded = flat.index_copy(0, item_places, token).view_as(embedded)
        if is_varlen(self.item_tower.config):
            source, lengths = end_to_end(position_ids, segments, item_places)
            hidden = self.item_tower(
                inputs_embeds=embedded.reshape(-1, embedded.shape[-1])[source][None],
                position_ids=position_ids.ravel()[source][None],
                use_cache=False,
                **sequence_lengths(lengths),
            ).last_hidden_state
            return hidden[0, lengths.cumsum(0) - 1]
        hidden = self.item_tower(
            inputs_embeds=embedded,
            attention_mask=layer_masks(segments, position_ids, self.item_tower.config, embedded.dtype),
            position_ids=position_ids,
            use_cache=False,
        ).last_hidden_state
        return hidden.reshape(-1, hidden.shape[-1])[item_places]

    def _encode_in_chunks(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        segments: Tensor,
        item_places: Tensor,
        spans: Sequence[tuple[int, int]],
    ) -> Tensor:
        """The same as `encode_items`, with the activations of a span of rows at a time.

        Each chunk is encoded again in the backward pass, with the gradients of its vectors: what GradCache does (Gao et
        al. 2021, arXiv 2101.06983).
        """
        width = input_ids.shape[1]
        row_of = item_places // width
        vectors, places, again = [], [], []
        for start, stop in spans:
            inside = ((row_of >= start) & (row_of < stop)).nonzero()[:, 0]
            idle = stop == start  # other processes are not done yet
            chunk = [part[:1] if idle else part[start:stop] for part in (input_ids, position_ids, segments)]
            read = item_places[row_of == 0] if idle else item_places[inside] - start * width
            found = checkpoint(self.encode_items, *chunk, read, use_reentrant=False)
            (again if idle else vectors).append(found)
            places.append(inside)
        return _with_idle(torch.cat(vectors)[torch.cat(places).argsort()], again)

    def _predicted(self, vectors: Tensor, histories: Tensor, is_target: Tensor, *, shared: bool) -> Tensor:
        """The user tower's states before the targets: [T, D]; with several parts, computed again when differentiated.

        vectors: [U, D]. histories: int64 [B, L]. is_target: bool [B, L]. shared: among processes, which take all parts.
        """

        def of(histories: Tensor, is_target: Tensor) -> Tensor:
            return self.encode_users(vectors[histories])[is_target]

        if self.parts == 1:
            return of(histories, is_target)
        users = len(histories)
        states: list[Any] = []
        again: list[Any] = []
        for start, stop in _spans(users, math.ceil(users / self.parts), self.parts if shared else None):
            part = slice(start, stop) if stop > start else slice(0, 1)
            found = checkpoint(of, histories[part], is_target[part], use_reentrant=False)
            (states if stop > start else again).append(found)
        return _with_idle(torch.cat(states), again)

    def encode_users(self, history: Tensor) -> Tensor:
        """Item vectors of histories [B, L, D], oldest first, padded at the end → [B, L, D], causal."""
        return self.user_tower(inputs_embeds=history, use_cache=False).last_hidden_state

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        segments: Tensor,
        item_places: Tensor,
        sequences: Tensor,
        is_target: Tensor,
        negatives: Tensor,
        log_chance: Tensor,
        own: Tensor,
        sizes: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss of a batch, and the share of masked negatives.

        Args:
            input_ids, position_ids, segments, item_places: the U packed items, see `PackedItems`.
            sequences: int64 [B, L + 1], indices of packed items, padded with 0.
            is_target: bool [B, L], whether the next item is a target.
            negatives: int64 [M], indices of packed items; of several processes, only those that this one encodes.
            log_chance: float32 [M], the log-probability that the item is among the negatives.
            own: bool [B, M], the negatives that occur in a sequence, and do not count for it.
            sizes: how many negatives each process encodes, if several share the batch.
        """
        logits, masked = self.predictions(
            input_ids, position_ids, segments, item_places, sequences, is_target, negatives, log_chance, own, sizes
        )
        return _first_is_right(logits), masked

    def predictions(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        segments: Tensor,
        item_places: Tensor,
        sequences: Tensor,
        is_target: Tensor,
        negatives: Tensor,
        log_chance: Tensor,
        own: Tensor,
        sizes: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits [T, 1 + M] of each target and the negatives, and the share of masked negatives; as in `forward`."""
        if self.training:
            # Project the parameter itself: beyond the limit, a clamp in the loss would have no gradient.
            self.log_scale.data.clamp_(max=LARGEST_SCALE)
        items = (input_ids, position_ids, segments, item_places)
        rows = self.rows_at_once or (math.ceil(len(input_ids) / self.parts) if self.parts > 1 else None)
        shared = sizes is not None
        if rows:
            chunks = most_of(math.ceil(len(input_ids) / rows), input_ids.device) if shared else None
            vectors = self._encode_in_chunks(*items, _spans(len(input_ids), rows, chunks))
        else:
            vectors = self.encode_items(*items)
        predicted = self._predicted(vectors, sequences[:, :-1], is_target, shared=shared)
        positives = vectors[sequences[:, 1:][is_target]]
        own_negatives = own[is_target.nonzero()[:, 0]]
        negative_vectors = gathered(vectors[negatives], sizes)
        return contrastive_logits(predicted, positives, negative_vectors, log_chance, own_negatives, self.log_scale)


def contrastive_logits(
    predicted: Tensor, positives: Tensor, negatives: Tensor, log_chance: Tensor, own: Tensor, log_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits for cosine NCE with learned temperature over pooled negatives, as in HLLM.

    Two kinds of negatives are masked: those of the user's own sequence, which are not drawn by chance, and those whose
    cosine with the positive exceeds 0.99. A negative's logit is corrected by the log-probability of being drawn (Bengio
    and Senécal 2008); 0 if all have the same. Computed in float32 also under autocast: bfloat16 has steps of 0.004 near
    a cosine of 1, and of 0.4 near a logit of 100.

    Args:
        predicted, positives: [T, D].
        negatives: [M, D].
        log_chance: [M].
        own: bool [T, M], the negatives of the user's own sequence.
        log_scale: the logarithm of the cosine's scale, a scalar.

    Returns:
        The logits [T, 1 + M], the positive's first, and the share of masked negatives among those outside the user's own
        sequence.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        predicted = F.normalize(predicted.float(), dim=-1)
        positives = F.normalize(positives.float(), dim=-1)
        negatives = F.normalize(negatives.float(), dim=-1)
        scale = log_scale.float().clamp(max=LARGEST_SCALE).exp()
        same_item = (positives.detach() @ negatives.detach().T) > SAME_ITEM_COSINE
        positive_logit = (predicted * positives).sum(-1, keepdim=True) * scale
        negative_logits = (predicted @ negatives.T * scale - log_chance).masked_fill(same_item | own, float("-inf"))
    logits = torch.cat([positive_logit, negative_logits], dim=1)
    return logits, (same_item & ~own).sum() / (~own).sum().clamp(min=1)


def _first_is_right(logits: Tensor) -> Tensor:
    """Mean cross-entropy where the first choice came."""
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def _first_and_last_layer(weights: Mapping[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """A backbone's weights without token embeddings and inner layers; the last layer becomes layer 1."""
    taken = {}
    for name, weight in weights.items():
        part, number, *rest = name.split(".")
        if part == "layers" and int(number) in (0, n_layers - 1):
            taken[f"layers.{0 if number == '0' else 1}." + ".".join(rest)] = weight
            if n_layers == 1:
                taken["layers.1." + ".".join(rest)] = weight
        elif part not in ("layers", "embed_tokens"):
            taken[name] = weight
    return taken


def _spans(n: int, size: int, count: int | None) -> list[tuple[int, int]]:
    """Spans of `size` of n things; or so many spans, of which some may be empty: where weights are divided among processes,
    all must call each layer equally often.
    """
    if count is None:
        return [(start, min(start + size, n)) for start in range(0, n, size)]
    return [(n * number // count, n * (number + 1) // count) for number in range(count)]


def _with_idle(found: Tensor, again: Sequence[Tensor]) -> Tensor:
    """What was found, with what was computed only to keep step with other processes, at no weight."""
    for one in again:
        found = found + 0 * one.sum()
    return found


def _as_config(config: dict[str, Any] | PreTrainedConfig | None) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        return config
    settings = dict(config or {"model_type": "qwen3"})
    return AutoConfig.for_model(**settings)


AutoConfig.register(MODEL_TYPE, SembConfig)
AutoModel.register(SembConfig, SembModel)
