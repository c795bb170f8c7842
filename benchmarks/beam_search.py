"""Constrained beam search, compared with Hugging Face's `generate` with a prefix function, and with its lower bound.

Same model (random weights), same prompts, beam 20, 4 levels of 256 codes, 12,000 items, same number of threads. The
lower bound on the time is a prefill alone: the decoder processes the prompts and nothing else. In float32 both searches
must find the same items in the same order with the same scores.

    python benchmarks/beam_search.py                  # 2 M parameters
    python benchmarks/beam_search.py --model 135M     # shapes of SmolLM2-135M; generate takes minutes
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from mmgrid.decoding import ItemTrie, beam_search

ITEMS, LEVELS, CODES, BEAMS, PROMPT = 12_000, 4, 256, 20, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default="2M")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model, words = MODELS[options.model]()
    model = model.eval()
    codes = distinct_codes()
    tokens = np.arange(words, words + LEVELS * CODES).reshape(LEVELS, CODES)
    trie, peer = ItemTrie(codes, tokens), Generate(codes, tokens)
    size = sum(weight.numel() for weight in model.parameters())
    print(f"torch {torch.__version__}, {options.threads} threads, {size / 1e6:.1f} M parameters, prompts of {PROMPT}\n")
    print("| type | batch | generate | ours | × generate | prefill | share of prefill |\n|---|---|---|---|---|---|---|")
    for dtype in options.dtypes:
        model = model.to(getattr(torch, dtype))
        for batch in options.batches:
            prompts = torch.randint(1, words, (batch, PROMPT))
            search = partial(beam_search, attention_mask=None, trie=trie, beam_width=BEAMS)
            (theirs,), (expected,) = rates([peer], model, prompts, options.peer_repeats)
            (ours, floor), (found, _) = rates([search, prefill], model, prompts, options.repeats)
            if dtype == "float32":
                compare(found, expected)
            print(
                f"| {dtype} | {batch} | {theirs:.3g}/s | {ours:.3g}/s | {ours / theirs:.1f}× | {floor:.3g}/s "
                f"| {ours / floor:.0%} |",
                flush=True,
            )


def tiny() -> tuple[PreTrainedModel, int]:
    shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen3ForCausalLM(
        Qwen3Config(
            **shape,
            head_dim=32,
            intermediate_size=384,
            vocab_size=8192 + LEVELS * CODES,
            tie_word_embeddings=True,
            initializer_range=0.1,
            eos_token_id=None,
            pad_token_id=0,
        )
    ), 8192


def smollm() -> tuple[PreTrainedModel, int]:
    shape = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    return LlamaForCausalLM(
        LlamaConfig(
            **shape,
            intermediate_size=1536,
            vocab_size=49_152 + LEVELS * CODES,
            tie_word_embeddings=True,
            initializer_range=0.05,
            eos_token_id=None,
            pad_token_id=0,
        )
    ), 49_152


MODELS: dict[str, Callable[[], tuple[PreTrainedModel, int]]] = {"2M": tiny, "135M": smollm}


def distinct_codes() -> np.ndarray:
    numbers = np.random.default_rng(0).choice(CODES**LEVELS, ITEMS, replace=False)
    return np.stack(np.unravel_index(numbers, (CODES,) * LEVELS), axis=1)


class Generate:
    """`generate` with the trie as a mapping from prefixes to allowed next tokens."""

    def __init__(self, codes: np.ndarray, tokens: np.ndarray):
        rows = tokens[np.arange(LEVELS), codes]
        following: dict[tuple[int, ...], set[int]] = {}
        for row in rows.tolist():
            for level in range(LEVELS):
                following.setdefault(tuple(row[:level]), set()).add(row[level])
        self.following = {prefix: sorted(allowed) for prefix, allowed in following.items()}
        self.items = {tuple(row): item for item, row in enumerate(rows.tolist())}

    def __call__(self, model: PreTrainedModel, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Items int64 [prompts, beams], best first, and their scores."""
        generated = model.generate(
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=LEVELS,
            min_new_tokens=LEVELS,
            do_sample=False,
            length_penalty=0.0,
            prefix_allowed_tokens_fn=lambda _, row: self.following[tuple(row[PROMPT:].tolist())],
            return_dict_in_generate=True,
            output_scores=True,
        )
        items = [self.items[tuple(row)] for row in generated.sequences[:, -LEVELS:].tolist()]
        return torch.tensor(items).view(-1, BEAMS), generated.sequences_scores.view(-1, BEAMS)


def compare(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    """Raises unless both searches found the same items in the same order."""
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-4)
    if not ours[0].equal(theirs[0]):
        raise AssertionError("the two searches found different items")


@torch.no_grad()
def prefill(model: PreTrainedModel, prompts: Tensor) -> None:
    model.get_decoder()(input_ids=prompts, use_cache=True)


def rates(
    runs: list[Callable[..., Any]], model: PreTrainedModel, prompts: Tensor, repeats: int
) -> tuple[list[float], list[Any]]:
    """The prompts per second of each run, and its result.

    The runs take turns, and the best of `repeats` counts, after a warm-up with one prompt.
    """
    found = [run(model, prompts[:1]) for run in runs]
    best = [float("inf")] * len(runs)
    for _ in range(repeats):
        found = []
        for place, run in enumerate(runs):
            start = time.perf_counter()
            found.append(run(model, prompts))
            best[place] = min(best[place], time.perf_counter() - start)
    return [len(prompts) / seconds for seconds in best], found


if __name__ == "__main__":
    main()
