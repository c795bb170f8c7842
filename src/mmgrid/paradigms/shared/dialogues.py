"""Dialogues of questions and answers, packed into rows; only the tokens of answers enter the loss.

A batch's dialogues are packed into few rows instead of being padded to the longest one; the attention mask separates
them. Only the hidden states before answer tokens go through the language-model head, since only those need logits.

Shape letters: R rows, W row width, T answer tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.load import BackboneError
from mmgrid.backbone.longest import check_length, longest
from mmgrid.paradigms.shared.layer_masks import layer_masks
from mmgrid.paradigms.shared.packing import PADDING_SEGMENT, best_fit, is_varlen, sequence_lengths

ROW_WIDTH = 256

Tokens = Sequence[int] | np.ndarray


@dataclass(frozen=True, eq=False)
class Dialogue:
    """Token ids, and which of them belong to answers. The first token never does: nothing precedes it."""

    tokens: np.ndarray  # int64 [n]
    is_answer: np.ndarray  # bool [n]

    @classmethod
    def of(cls, *turns: tuple[Tokens, Tokens]) -> Dialogue:
        """From turns of a question and its answer."""
        parts = [np.asarray(part, np.int64) for turn in turns for part in turn]
        is_answer = np.repeat(np.arange(len(parts)) % 2 == 1, [len(part) for part in parts])
        return cls(np.concatenate(parts), is_answer)

    def __len__(self) -> int:
        return len(self.tokens)


def collate(dialogues: Sequence[Dialogue], row_width: int = ROW_WIDTH) -> dict[str, Tensor]:
    """Pack dialogues into rows, as `answer_states` and `answer_logits` read them.

    Returns:
        input_ids, position_ids, segments: int64 [R, W]; `segments` numbers a row's dialogues from 1, -1 is padding.
        places: int64 [T], the flat index in [R, W] of the token before each answer token.
        labels: int64 [T], the answer tokens.
    """
    lengths = np.fromiter((len(dialogue) for dialogue in dialogues), np.int64, len(dialogues))
    rows, columns, segment = best_fit(lengths, max(row_width, int(lengths.max())))
    shape = int(rows.max()) + 1, int((columns + lengths).max())
    first = rows * shape[1] + columns
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    flat = np.repeat(first, lengths) + within
    tokens = np.concatenate([dialogue.tokens for dialogue in dialogues])
    is_answer = np.concatenate([dialogue.is_answer for dialogue in dialogues])

    def table(values: np.ndarray, filling: int) -> Tensor:
        filled = np.full(shape, filling, np.int64)
        filled.ravel()[flat] = values
        return torch.from_numpy(filled)

    return {
        "input_ids": table(tokens, 0),
        "position_ids": table(within, 0),
        "segments": table(np.repeat(segment, lengths), PADDING_SEGMENT),
        "places": torch.from_numpy(flat[is_answer] - 1),
        "labels": torch.from_numpy(tokens[is_answer]),
    }


def answer_tokens(dialogues: Sequence[Dialogue]) -> int:
    """The number T of answer tokens, over which a mean loss is taken."""
    return sum(int(dialogue.is_answer.sum()) for dialogue in dialogues)


def answer_logits(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Logits for the answer tokens only: [T, V]."""
    return _forward(model, batch, lambda hidden: _at_places(hidden, batch)[None]).logits[0]


def answer_states(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """The hidden states [T, D] that predict the answer tokens, for callers that compute logits themselves."""
    caught: list[Tensor] = []

    def catch(hidden: Tensor) -> Tensor:
        caught.append(_at_places(hidden, batch))
        return hidden[:, -1:]  # the head's own logits are not used: give it next to nothing to compute

    _forward(model, batch, catch)
    return caught[0]


def _forward(model: nn.Module, batch: dict[str, Any], before_head: Callable[[Tensor], Tensor]) -> Any:
    """Call the model itself, so that its wrappers (mixed precision, several processes) take effect.

    before_head: maps the hidden states [R, W, D] to the input of the head.
    """
    inner: Any = getattr(model, "module", model)  # of DistributedDataParallel
    if batch["input_ids"].shape[1] > (longest(inner) or math.inf):
        check_length(inner, int(batch["position_ids"].max()) + 1)
    head = inner.get_output_embeddings()
    if is_varlen(inner.config):
        return _forward_end_to_end(model, head, batch, before_head)
    with head.register_forward_pre_hook(lambda _, inputs: (before_head(inputs[0]),)):
        return model(
            input_ids=batch["input_ids"],
            attention_mask=layer_masks(batch["segments"], batch["position_ids"], inner.config, inner.dtype),
            position_ids=batch["position_ids"],
            use_cache=False,
        )


def _forward_end_to_end(
    model: nn.Module, head: nn.Module, batch: dict[str, Any], before_head: Callable[[Tensor], Tensor]
) -> Any:
    """As `_forward`, with the dialogues as one sequence without padding, for attention that knows where each begins.

    Before the head, the states are put back into rows [R, W], with zeros at padding.
    """
    there = (batch["segments"] != PADDING_SEGMENT).ravel()
    found = there.nonzero()[:, 0]
    position_ids = batch["position_ids"].ravel()[found]
    starts = (position_ids == 0).nonzero()[:, 0]
    lengths = torch.diff(starts, append=starts.new_tensor([len(found)]))

    def in_rows(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        states = inputs[0][0]
        rows = states.new_zeros(len(there), states.shape[-1]).index_copy(0, found, states)
        return (before_head(rows.view(*batch["segments"].shape, -1)),)

    with head.register_forward_pre_hook(in_rows):
        return model(
            input_ids=batch["input_ids"].ravel()[found][None],
            position_ids=position_ids[None],
            use_cache=False,
            **sequence_lengths(lengths),
        )


def _at_places(hidden: Tensor, batch: dict[str, Any]) -> Tensor:
    return hidden.reshape(-1, hidden.shape[-1])[batch["places"]]


@torch.no_grad()
def check_packing(model: PreTrainedModel) -> None:
    """Raise BackboneError if a dialogue's hidden states depend on other dialogues in its row.

    They do if layers mix tokens by anything but masked attention (convolutions, recurrent states), or ignore
    `position_ids`.
    """
    tokens = np.arange(min(model.config.get_text_config().vocab_size, 16))
    dialogues = [Dialogue.of((tokens[:3], tokens[3:7])), Dialogue.of((tokens[7:9], tokens[9:]))]
    with evaluating(model):
        together = answer_states(model, collate(dialogues))
        alone = torch.cat([answer_states(model, collate([dialogue], 1)) for dialogue in dialogues])
    if not torch.allclose(together, alone, rtol=0, atol=1e-3 * float(alone.abs().max())):
        raise BackboneError(
            f"a {model.config.model_type} cannot be the backbone of text or semid: its states of a dialogue "
            "depend on other dialogues in the row, so dialogues cannot be packed; use a decoder with plain attention, "
            "such as Qwen"
        )
