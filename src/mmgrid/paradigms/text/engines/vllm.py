"""Titles through vLLM, from a checkpoint folder. It is an extra: `pip install "mmgrid[vllm]"`, or `make test-vllm`.

The same class serves on a processor and on a GPU: which of them, vLLM knows from how it was built.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mmgrid.backbone.load import load_tokenizer
from mmgrid.paradigms.shared.prompts import as_title
from mmgrid.paradigms.text.engines.contract import Prompt, stop_tokens
from mmgrid.seeds import derive

Decoding = Literal["sampling", "beam"]


class VllmGenerator:
    """See `mmgrid.paradigms.text.engines.TitleGenerator`. One title is greedy; several are samples or a beam.

    A sample's seed comes from the prompt, so that it depends on neither the order nor the company. vLLM's beam knows
    no stop tokens but the end of all text, and is slow; titles are cut at the first line break.
    """

    def __init__(
        self,
        folder: Path,
        *,
        title_tokens: int,
        decoding: Decoding = "sampling",
        temperature: float = 0.6,
        seed: int = 0,
        dtype: str = "float32",
        **engine: Any,
    ):
        """Start an engine on a checkpoint.

        Args:
            folder: a Hugging Face folder with its tokenizer.
            title_tokens: of a title at most.
            temperature: of samples; 0.6 is the official code's.
            dtype: of weights and computation; vLLM left alone would take a 16-bit format for float32 weights.
            engine: what else `vllm.LLM` takes, such as `tensor_parallel_size`; on a GPU, `gpu_memory_utilization` is
                what is free of it where nothing is said.
        """
        try:
            from vllm import LLM  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError(f'vLLM cannot be imported ({error}): pip install "mmgrid[vllm]"') from error
        self.tokenizer = load_tokenizer(folder)
        self.title_tokens = title_tokens
        self.decoding = decoding
        self.temperature = temperature
        self.seed = seed
        self.stops = stop_tokens(self.tokenizer)
        self.engine = LLM(model=str(folder), dtype=dtype, seed=seed, **{**_free_memory(), **engine})

    def titles(self, prompts: Sequence[Prompt], n: int) -> list[list[str]]:
        """Raises ValueError for a prompt without tokens."""
        tokens = [[int(token) for token in prompt] for prompt in prompts]
        if not all(tokens):
            raise ValueError(f"prompt {tokens.index([])} has no tokens: there is nothing to go on from")
        if not tokens:
            return []
        if n > 1 and self.decoding == "beam":
            return self._by_beam(tokens, n)
        return self._by_sampling(tokens, n)

    def close(self) -> None:
        """Stop the engine and give its memory back."""
        self.engine.llm_engine.engine_core.shutdown()

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
            often_first([as_title(self.tokenizer, list(answer.token_ids)) for answer in output.outputs])
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


def often_first(titles: Sequence[str]) -> list[str]:
    """The same titles, those first that were sampled most often."""
    return [title for title, count in Counter(titles).most_common() for _ in range(count)]


def _free_memory() -> dict[str, float]:
    """The share of a GPU that the engine may take: what others, such as an embedder, have left of it."""
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": round(0.95 * free / total, 2)}


def _inputs(prompts: list[list[int]]) -> list[Any]:
    return [{"prompt_token_ids": prompt} for prompt in prompts]
