"""Titles by beam search through `generate` of Transformers, from a model in memory.

The beams of a user share their prompt: the model reads it once and its keys and values are copied for each beam, while
`generate` alone would read it once per beam.

Shape letters: B prompts of a batch, n titles of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.longest import check_length
from mmgrid.decoding.kv_cache import cache_argument
from mmgrid.paradigms.shared.chat import Chat
from mmgrid.paradigms.shared.padding import pad_left
from mmgrid.paradigms.shared.prompts import as_title
from mmgrid.paradigms.text.engines.contract import Prompt, stop_tokens

# Memory for the keys, values and logits of a batch, by kind of device. Fixed instead of the free memory, so that the
# same prompts always form the same batches.
LIMIT_BYTES = {"cpu": 256 << 20, "cuda": 8 << 30}


class HuggingFaceGenerator:
    """See `mmgrid.paradigms.text.engines.TitleGenerator`. Beam search of width n; deterministic.

    may_be_empty: whether an answer may end with its first token.
    """

    may_be_empty: ClassVar[bool] = False

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        title_tokens: int,
        limit_bytes: int | None = None,
    ):
        """Args:
        model: with its language-model head.
        title_tokens: maximum tokens of a title.
        limit_bytes: memory of a batch; default: `LIMIT_BYTES` of the model's device.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.title_tokens = title_tokens
        self.limit_bytes = limit_bytes or LIMIT_BYTES.get(model.device.type, LIMIT_BYTES["cuda"])
        self.stops = stop_tokens(tokenizer)
        self.end = Chat.of(tokenizer).end[-1]

    @torch.no_grad()
    def titles(self, prompts: Sequence[Prompt], n: int) -> list[list[str]]:
        """See `TitleGenerator`. Raises ValueError if a prompt has no tokens or too many, or the model's states are not finite."""
        lengths = np.fromiter((len(prompt) for prompt in prompts), np.int64, len(prompts))
        if (lengths == 0).any():
            raise ValueError(f"prompt {int(np.argmin(lengths))} has no tokens: there is nothing to continue")
        check_length(self.model, int(lengths.max(initial=0)) + self.title_tokens)
        found: list[list[str]] = [[] for _ in prompts]
        with evaluating(self.model), _own_generation_config(self.model, self._config(n)):
            for rows in self._batches(lengths, n):
                answers = self._generate([prompts[row] for row in rows], n)
                for row, answer in zip(rows, answers.split(n), strict=True):
                    found[row] = [self.title(prompts[row], tokens) for tokens in answer.tolist()]
        return found

    def title(self, prompt: Prompt, answer: list[int]) -> str:
        """The title of an answer's tokens."""
        return as_title(self.tokenizer, answer)

    def _generate(self, prompts: list[Prompt], n: int) -> Tensor:
        """The tokens generated after the prompts: int64 [B · n, at most title_tokens], padded with a stop token."""
        ids, mask = (table.to(self.model.device) for table in pad_left(prompts))
        cache = DynamicCache(config=self.model.config)
        if ids.shape[1] > 1:
            # `generate` needs at least one token to start from: the last one.
            decoder = self.model.get_decoder()
            read = decoder(
                input_ids=ids[:, :-1],
                attention_mask=mask[:, :-1],
                position_ids=(mask[:, :-1].cumsum(1) - 1).clamp(min=0),
                **cache_argument(decoder, cache),
                use_cache=True,
            ).last_hidden_state
            if not torch.isfinite(read[:, -1][mask[:, -2] > 0]).all():
                raise ValueError("the hidden states of a prompt contain NaN or infinity: the model is broken")
            cache.batch_repeat_interleave(n)
        generate: Any = self.model.generate
        stopping = StoppingCriteriaList([EndsWithStopToken(self.stops)])
        caching = cache_argument(self.model, cache)
        generated = generate(input_ids=ids, attention_mask=mask, stopping_criteria=stopping, **caching)
        return generated[:, ids.shape[1] :]

    def _config(self, n: int) -> GenerationConfig:
        return GenerationConfig(
            num_beams=n,
            num_return_sequences=n,
            do_sample=False,
            begin_suppress_tokens=None if self.may_be_empty else self.stops,
            max_new_tokens=self.title_tokens,
            # Only one of the stop tokens: `generate` widens its beams by each. `EndsWithStopToken` has all of them.
            eos_token_id=self.end,
            pad_token_id=self.end,
            use_cache=True,
        )

    def _batches(self, lengths: np.ndarray, n: int) -> Iterator[list[int]]:
        """Batches of prompt rows: similar lengths, as many as fit into `limit_bytes`."""
        order = np.argsort(-lengths, kind="stable").tolist()
        start = 0
        while start < len(order):
            size = max(1, self.limit_bytes // self._bytes(int(lengths[order[start]]), n))  # the longest comes first
            yield order[start : start + size]
            start += size

    def _bytes(self, length: int, n: int) -> int:
        """Memory of one prompt: logits in float32; keys and values twice, since reordering the beams copies them."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        state = 2 * config.num_hidden_layers * heads * width * self.model.dtype.itemsize
        return n * (2 * (length + self.title_tokens) * state + 3 * 4 * config.vocab_size)


class EndsWithStopToken(StoppingCriteria):
    """Whether the last token of each sequence is a stop token."""

    def __init__(self, stops: Sequence[int]):
        self.stops = torch.tensor(stops)

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:  # pyright: ignore
        return torch.isin(input_ids[:, -1], self.stops.to(input_ids.device))


@contextmanager
def _own_generation_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Replaces the model's generation config within: it would fill every value that ours leaves open."""
    before, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = before
