"""Packs many short item texts into few rows, with little padding and one copy of their common prompt per row.

Every item text starts with the same prompt. In a causal model the prompt's hidden states do not depend on what follows,
so a row contains it once, followed by one item after the other. Each token attends to the prompt and to the earlier
tokens of its own item, and has the position that it would have alone. The vectors equal those of encoding each item by
itself, with a fraction of the tokens.

Shape letters: R rows, W row width, U distinct items, P tokens of the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig

PROMPT_SEGMENT = 0
PADDING_SEGMENT = -1
ROW_WIDTH = 128


@dataclass(frozen=True)
class TokenTable:
    """Token ids of N item texts: item i has `tokens[offsets[i]:offsets[i + 1]]`; `prompt` precedes each."""

    prompt: np.ndarray  # int64 [P]
    offsets: np.ndarray  # int64 [N + 1]
    tokens: np.ndarray  # int64 [all tokens]

    @classmethod
    def of(cls, prompt: Sequence[int], texts: Sequence[Sequence[int]]) -> "TokenTable":
        lengths = np.fromiter((len(text) for text in texts), np.int64, len(texts))
        tokens = np.fromiter((token for text in texts for token in text), np.int64, int(lengths.sum()))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return cls(np.asarray(prompt, np.int64), offsets, tokens)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self, items: np.ndarray) -> np.ndarray:
        """Tokens of each of `items`, without the prompt: int64 [U]."""
        return self.offsets[items + 1] - self.offsets[items]


@dataclass(frozen=True)
class PackedItems:
    """Rows of packed items, the input of a model."""

    input_ids: Tensor  # int64 [R, W]; 0 at [ITEM] vectors and padding
    position_ids: Tensor  # int64 [R, W]
    segments: Tensor  # int64 [R, W]: 0 the prompt, 1, 2, … the row's items, -1 padding
    item_places: Tensor  # int64 [U]: flat index of each item's [ITEM] vector in [R, W]

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))


def pack(table: TokenTable, items: np.ndarray, row_width: int = ROW_WIDTH) -> PackedItems:
    """Pack `items` (int64 [U], rows of the table) behind the prompt, each followed by one [ITEM] place."""
    prompt_length = len(table.prompt)
    lengths = table.lengths(items) + 1
    width = max(row_width, prompt_length + int(lengths.max(initial=1)))
    rows, columns, segment = best_fit(lengths, width - prompt_length)
    n_rows = int(rows.max(initial=0)) + 1
    width = prompt_length + int((columns + lengths).max(initial=1))
    input_ids = np.zeros((n_rows, width), np.int64)
    position_ids = np.zeros((n_rows, width), np.int64)
    segments = np.full((n_rows, width), PADDING_SEGMENT, np.int64)
    input_ids[:, :prompt_length] = table.prompt
    position_ids[:, :prompt_length] = np.arange(prompt_length)
    segments[:, :prompt_length] = PROMPT_SEGMENT

    starts = rows * width + prompt_length + columns  # flat index of each item's first token
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = np.repeat(starts, lengths) + within
    position_ids.ravel()[places] = prompt_length + within
    segments.ravel()[places] = np.repeat(segment, lengths)
    is_text = within < np.repeat(lengths - 1, lengths)
    source = np.repeat(table.offsets[items], lengths) + within
    input_ids.ravel()[places[is_text]] = table.tokens[source[is_text]]
    item_places = starts + lengths - 1
    return PackedItems(
        torch.from_numpy(input_ids),
        torch.from_numpy(position_ids),
        torch.from_numpy(segments),
        torch.from_numpy(item_places),
    )


def real_places(batch: Mapping[str, Any]) -> Tensor | None:
    """Which places of a packed batch hold tokens and no padding: bool [R, W]; None for a batch that is not packed."""
    segments = batch.get("segments")
    return None if segments is None else segments != PADDING_SEGMENT


def attention_mask(segments: Tensor) -> Tensor:
    """Which token attends to which: the prompt, and earlier tokens of the same segment: bool [R, 1, W, W]."""
    same = segments[:, :, None] == segments[:, None, :]
    prompt = (segments == PROMPT_SEGMENT)[:, None, :]
    width = segments.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    return ((same | prompt) & causal)[:, None]


def is_varlen(config: PreTrainedConfig) -> bool:
    """Whether the model's attention takes no masks, but sequences end to end, with their lengths (flash-attention)."""
    return str(config._attn_implementation).startswith("flash")


def sequence_lengths(lengths: Tensor) -> dict[str, Any]:
    """What such attention is told about sequences of these lengths, int64 [n], that lie end to end."""
    ends = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    longest = int(lengths.max())
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


def end_to_end(position_ids: Tensor, segments: Tensor, item_places: Tensor) -> tuple[Tensor, Tensor]:
    """Packed items as sequences of their own, each with the prompt before it.

    Arguments as in `PackedItems`.

    Returns:
        The flat index in [R, W] of each token: int64 [tokens]; and the length of each sequence: int64 [U]. The last
        token of each sequence is its item's [ITEM] place.
    """
    prompt = int((segments[0] == PROMPT_SEGMENT).sum())
    lengths = position_ids.ravel()[item_places] + 1
    within = torch.arange(int(lengths.sum()), device=lengths.device)
    within = within - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    first = (item_places - lengths + 1).repeat_interleave(lengths)  # where the item's prompt would begin
    return torch.where(within < prompt, within, first + within), lengths


def best_fit(lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best-fit packing, longest first: row, column and number within the row (from 1) of each length."""
    rows = np.zeros(len(lengths), np.int64)
    columns = np.zeros(len(lengths), np.int64)
    numbers = np.zeros(len(lengths), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]  # by remaining room
    filled: list[int] = []  # items in each row
    for place in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[place])
        room = next((room for room in range(length, capacity) if open_rows[room]), None)
        if room is None:
            row, room = len(filled), capacity
            filled.append(0)
        else:
            row = open_rows[room].pop()
        filled[row] += 1
        rows[place], columns[place], numbers[place] = row, capacity - room, filled[row]
        open_rows[room - length].append(row)
    return rows, columns, numbers
