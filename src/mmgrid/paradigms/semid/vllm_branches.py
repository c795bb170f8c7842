"""Beams of codes whose next tokens vLLM scores.

Each step is one batch of requests for one token each: a prompt with the codes of one beam. vLLM keeps the keys and
values of prompts, and of beams that go on, in its prefix cache.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class VllmBranches:
    """See `mmgrid.decoding.branches.Branches`; its logits are log-probabilities among the tokens asked for."""

    def __init__(self, engine: Any, prompts: Sequence[np.ndarray], device: torch.device) -> None:
        """engine: a `vllm.LLM` with `ENGINE_OPTIONS`, and `max_logprobs` of at least the codes of a level."""
        self._engine, self._device = engine, device
        self._beams = [[[int(token) for token in prompt]] for prompt in prompts]

    def __len__(self) -> int:
        return len(self._beams)

    def logits(self, tokens: Tensor) -> Tensor:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        distinct, place = torch.unique(tokens, return_inverse=True)
        allowed = distinct.tolist()
        ask = SamplingParams(
            temperature=0.0, max_tokens=1, logprobs=len(allowed), allowed_token_ids=allowed, detokenize=False
        )
        requests: list[Any] = [{"prompt_token_ids": beam} for beams in self._beams for beam in beams]
        answers = self._engine.generate(requests, ask, use_tqdm=False)
        found = np.array([_of_answer(answer, allowed) for answer in answers], np.float32)
        table = torch.from_numpy(found).to(self._device).view(len(self), -1, len(allowed))
        return table[..., place]

    def vocabulary_logits(self) -> Tensor:
        raise ValueError('vLLM is asked for the tokens of a level only: set renormalise to "level" or "children"')

    def grow(self, tokens: Tensor, parents: Tensor) -> None:
        self._beams = [
            [[*beams[parent], token] for token, parent in zip(*new, strict=True)]
            for beams, *new in zip(self._beams, tokens.tolist(), parents.tolist(), strict=True)
        ]


ENGINE_OPTIONS = {"logprobs_mode": "processed_logprobs", "enable_prefix_caching": True}
"""What an engine needs so that log-probabilities are those among the allowed tokens, and prompts are read once."""


def _of_answer(answer: Any, tokens: list[int]) -> list[float]:
    (found,) = answer.outputs[0].logprobs
    return [found[token].logprob for token in tokens]
