"""Titles through vLLM, from a checkpoint folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmgrid.backbone.load import load_tokenizer
from mmgrid.paradigms.shared.prompts import as_title
from mmgrid.paradigms.shared.vllm_engine import start_engine, stop_engine
from mmgrid.paradigms.text.engines.contract import Prompt, stop_tokens
from mmgrid.seeds import derive

Decoding = Literal["sampling", "beam"]


class VllmGenerator:
    """See `mmgrid.paradigms.text.engines.TitleGenerator`. One title is greedy; several are samples or a beam.

    A sample's seed is derived from the prompt, so that samples do not depend on other prompts. vLLM's beam search is
    slow and stops only at the end-of-text token; titles are cut at the first line break.
    """

    def __init__(
        self,
        folder: Path,
        *,
        title_tokens: int,
        decoding: Decoding = "sampling",
        temperature: float = 0.6,
        seed: int = 0,
        **engine: Any,
    ):
        """Start an engine on a checkpoint.

        Args:
            folder: a Hugging Face folder with its tokenizer.
            title_tokens: maximum tokens of a title.
            temperature: of samples; default: as in the official code.
            engine: further arguments of `start_engine`.
        """
        self.engine = start_engine(folder, seed=seed, **engine)
        self.tokenizer = load_tokenizer(folder)
        self.title_tokens = title_tokens
        self.decoding = decoding
        self.temperature = temperature
        self.seed = seed
        self.stops = stop_tokens(self.tokenizer)

    def titles(self, prompts: Sequence[Prompt], n: int) -> list[list[str]]:
        """See `TitleGenerator`. Raises ValueError if a prompt has no tokens."""
        tokens = [[int(token) for token in prompt] for prompt in prompts]
        if not all(tokens):
            raise ValueError(f"prompt {tokens.index([])} has no tokens: there is nothing to continue")
        if not tokens:
            return []
        if n > 1 and self.decoding == "beam":
            return self._by_beam(tokens, n)
        return self._by_sampling(tokens, n)

    def close(self) -> None:
        """Stop the engine and free its memory."""
        stop_engine(self.engine)

    def _by_sampling(self, prompts: list[list[int]], n: int) -> list[list[str]]:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        options = [
            SamplingParams(
                n=n,
                temperature=self.temperature if n > 1 else 0.0,
                seed=self._seed(prompt),
                min_tokens=1,
                max_tokens=self.title_tokens,
                stop_token_ids=self.stops,
                detokenize=False,
            )
            for prompt in prompts
        ]
        outputs = self.engine.generate(_inputs(prompts), options, use_tqdm=False)
        return [
            by_frequency([as_title(self.tokenizer, list(answer.token_ids)) for answer in output.outputs])
            for output in outputs
        ]

    def _by_beam(self, prompts: list[list[int]], n: int) -> list[list[str]]:
        from vllm.sampling_params import BeamSearchParams  # pyright: ignore[reportMissingImports]

        options = BeamSearchParams(beam_width=n, max_tokens=self.title_tokens)
        outputs = self.engine.beam_search(_inputs(prompts), options)
        return [
            [as_title(self.tokenizer, beam.tokens[len(prompt) :]) for beam in output.sequences]
            for prompt, output in zip(prompts, outputs, strict=True)
        ]

    def _seed(self, prompt: list[int]) -> int:
        return derive(self.seed, "titles", np.asarray(prompt, "<i8").tobytes().hex())


def by_frequency(titles: Sequence[str]) -> list[str]:
    """The titles sorted by how often each one was sampled, most frequent first."""
    return [title for title, count in Counter(titles).most_common() for _ in range(count)]


def _inputs(prompts: list[list[int]]) -> list[Any]:
    return [{"prompt_token_ids": prompt} for prompt in prompts]
