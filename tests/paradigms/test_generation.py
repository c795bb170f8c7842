"""Titles by beam search through Transformers, against a slow beam search in Python."""

import logging
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

from kits.small import make_backbone, make_tokenizer
from mmgrid.paradigms.shared.prompts import as_title
from mmgrid.paradigms.text.engines import HuggingFaceGenerator, VllmGenerator
from mmgrid.paradigms.text.engines.contract import stop_tokens
from mmgrid.paradigms.text.engines.vllm import by_frequency
from mmgrid.testing.data import make_items

TOKENIZER = make_tokenizer(make_items(40))
TITLE_TOKENS = 6


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_backbone(TOKENIZER, head=True).eval()


def _prompts(n: int = 12, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(10, len(TOKENIZER), rng.integers(1, 30)).tolist() for _ in range(n)]


def _generator(model: PreTrainedModel, **options) -> HuggingFaceGenerator:
    return HuggingFaceGenerator(model, TOKENIZER, title_tokens=TITLE_TOKENS, **options)


@torch.no_grad()
def slow_beam(model: PreTrainedModel, prompt: Sequence[int], n: int, stops: list[int]) -> list[list[int]]:
    """The n answers of a beam search, best first by the mean log-probability of their tokens.

    An answer ends at a stop token, which is never its first token, or at the maximum length. At each step, the ended
    ones among the n best continuations are kept, at most n; the search stops when no open one is better than the worst
    of n kept ones.
    """
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[tuple[float, list[int]]] = []
    for length in range(1, TITLE_TOKENS + 1):
        continued = []
        for score, told in beams:
            chances = model(torch.tensor([[*prompt, *told]])).logits[0, -1].double().log_softmax(0)
            if not told:
                chances[stops] = -torch.inf
            continued += [(score + chance, [*told, token]) for token, chance in enumerate(chances.tolist())]
        continued.sort(key=lambda pair: -pair[0])
        ends = [told[-1] in stops or length == TITLE_TOKENS for _, told in continued]
        done += [(score / length, told) for (score, told), end in zip(continued[:n], ends[:n], strict=True) if end]
        done = sorted(done, key=lambda pair: -pair[0])[:n]
        beams = [pair for pair, end in zip(continued, ends, strict=True) if not end][:n]
        if not beams or (len(done) == n and beams[0][0] / length < done[-1][0]):
            break
    return [told for _, told in done]


@pytest.mark.parametrize("n", [1, 3, 5])
def test_titles_are_those_of_the_slow_beam_search(model: PreTrainedModel, n: int) -> None:
    """With extra stop tokens: an untrained model would hardly ever end a title otherwise."""
    generator, prompts = _generator(model), _prompts()
    generator.stops = sorted({*stop_tokens(TOKENIZER), *range(50, 110)})
    told = [slow_beam(model, prompt, n, generator.stops) for prompt in prompts]
    assert generator.titles(prompts, n) == [[as_title(TOKENIZER, tokens) for tokens in answers] for answers in told]
    lengths = [len(tokens) for answers in told for tokens in answers]
    assert len(set(lengths)) > 2, "some end early, some at the maximum length"


@pytest.mark.parametrize("limit_bytes", [1, 400_000])
def test_batches_and_order_change_nothing(model: PreTrainedModel, limit_bytes: int) -> None:
    prompts = _prompts()
    expected = _generator(model).titles(prompts, 3)
    assert _generator(model, limit_bytes=limit_bytes).titles(prompts, 3) == expected
    assert _generator(model).titles(prompts[::-1], 3) == expected[::-1]


def test_a_batch_fits_into_the_memory_limit(model: PreTrainedModel) -> None:
    lengths = np.array([5, 300, 20, 7, 300, 6])
    generator = _generator(model, limit_bytes=4 * 5 * (2 * (300 + TITLE_TOKENS) * 3 * 2 * 16 * 4))
    batches = list(generator._batches(lengths, 5))
    assert sorted(row for rows in batches for row in rows) == list(range(6))
    assert [lengths[rows[0]] for rows in batches] == sorted((lengths[rows].max() for rows in batches), reverse=True)
    assert max(map(len, batches)) > 1
    for rows in batches:
        assert len(rows) * generator._bytes(int(lengths[rows].max()), 5) <= generator.limit_bytes
    alone = list(_generator(model, limit_bytes=1)._batches(lengths, 5))
    assert [len(rows) for rows in alone] == [1] * 6, "at least one prompt, for any limit"


def test_the_models_generation_config_is_ignored_and_unchanged(model: PreTrainedModel, caplog) -> None:
    expected = _generator(model).titles(_prompts(4), 2)
    own = GenerationConfig(do_sample=True, temperature=3.0, top_k=7, repetition_penalty=9.0, num_beams=1)
    before, model.generation_config = model.generation_config, own
    try:
        with caplog.at_level(logging.WARNING):
            found = [_generator(model).titles(_prompts(4), 2) for _ in range(2)]
        assert found == [expected, expected]
        assert model.generation_config is own
    finally:
        model.generation_config = before
    assert not caplog.records


def test_generation_has_no_dropout_and_no_gradients() -> None:
    model = make_backbone(TOKENIZER, head=True, attention_dropout=0.5).train()
    first, second = (_generator(model).titles(_prompts(4), 2) for _ in range(2))
    assert first == second
    assert all(weight.grad is None for weight in model.parameters())


def test_empty_prompts_and_broken_models_are_refused(model: PreTrainedModel) -> None:
    assert _generator(model).titles([], 3) == []
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        _generator(model).titles([[1, 2], []], 3)
    broken = make_backbone(TOKENIZER, head=True)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        _generator(broken).titles(_prompts(2), 3)


def test_the_error_without_vllm_says_how_to_install_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r'vLLM cannot be imported .*: pip install "mmgrid\[vllm\]"'):
        VllmGenerator(tmp_path, title_tokens=4)


def test_the_most_frequent_samples_come_first() -> None:
    assert by_frequency(["drill", "scarf", "saw", "scarf", "saw", "scarf"]) == ["scarf"] * 3 + ["saw"] * 2 + ["drill"]
    assert by_frequency(["saw", "drill", "drill", "saw"]) == ["saw", "saw", "drill", "drill"], (
        "among equally frequent ones, the first"
    )
    assert by_frequency([]) == []


def test_a_title_ends_at_any_token_with_a_line_break() -> None:
    """Tokenizers of large models have tokens such as a bracket with a line break."""
    tokenizer = make_tokenizer(make_items(40))
    tokenizer.add_tokens([")\n", "\n\n", "n)"])
    breaks = [token for token in range(len(tokenizer)) if "\n" in tokenizer.decode([token])]
    assert len(breaks) == 3, "the two, and the line break itself"
    assert stop_tokens(tokenizer) == sorted({*breaks, tokenizer.eos_token_id})
