"""Titles by beam search through Transformers, against a beam search written out in Python."""

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
    """The answers of a beam of width n, best first by mean log-probability of their tokens.

    A continuation ends at a stop token, which the first one never is, or at the last place. Of the n best ones those
    that end are kept, n at most; the others go on, until no open one is better than the worst of n that are kept.
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
def test_titles_are_those_of_a_beam_search_written_out(model: PreTrainedModel, n: int) -> None:
    """More tokens than usual end a title: of a model without training hardly any would."""
    generator, prompts = _generator(model), _prompts()
    generator.stops = sorted({*stop_tokens(TOKENIZER), *range(50, 110)})
    told = [slow_beam(model, prompt, n, generator.stops) for prompt in prompts]
    assert generator.titles(prompts, n) == [[as_title(TOKENIZER, tokens) for tokens in answers] for answers in told]
    lengths = [len(tokens) for answers in told for tokens in answers]
    assert len(set(lengths)) > 2, "some end early, some at the last place"


@pytest.mark.parametrize("limit_bytes", [1, 400_000])
def test_batches_and_order_change_nothing(model: PreTrainedModel, limit_bytes: int) -> None:
    prompts = _prompts()
    expected = _generator(model).titles(prompts, 3)
    assert _generator(model, limit_bytes=limit_bytes).titles(prompts, 3) == expected
    assert _generator(model).titles(prompts[::-1], 3) == expected[::-1]


def test_a_batch_has_room_for_what_it_computes(model: PreTrainedModel) -> None:
    lengths = np.array([5, 300, 20, 7, 300, 6])
    generator = _generator(model, limit_bytes=4 * 5 * (2 * (300 + TITLE_TOKENS) * 3 * 2 * 16 * 4))
    batches = list(generator._batches(lengths, 5))
    assert sorted(row for rows in batches for row in rows) == list(range(6))
    assert [lengths[rows[0]] for rows in batches] == sorted((lengths[rows].max() for rows in batches), reverse=True)
    assert max(map(len, batches)) > 1
    for rows in batches:
        assert len(rows) * generator._bytes(int(lengths[rows].max()), 5) <= generator.limit_bytes
    alone = list(_generator(model, limit_bytes=1)._batches(lengths, 5))
    assert [len(rows) for rows in alone] == [1] * 6, "one at least, whatever the limit"


def test_what_the_models_own_config_asks_for_is_left_out_and_left_alone(model: PreTrainedModel, caplog) -> None:
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


def test_nothing_is_trained_and_no_dropout_is_at_work() -> None:
    model = make_backbone(TOKENIZER, head=True, attention_dropout=0.5).train()
    first, second = (_generator(model).titles(_prompts(4), 2) for _ in range(2))
    assert first == second
    assert all(weight.grad is None for weight in model.parameters())


def test_what_cannot_be_gone_on_from_is_refused(model: PreTrainedModel) -> None:
    assert _generator(model).titles([], 3) == []
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        _generator(model).titles([[1, 2], []], 3)
    broken = make_backbone(TOKENIZER, head=True)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        _generator(broken).titles(_prompts(2), 3)


def test_without_vllm_its_generator_says_how_to_get_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r'vLLM cannot be imported .*: pip install "mmgrid\[vllm\]"'):
        VllmGenerator(tmp_path, title_tokens=4)


def test_of_samples_those_come_first_that_came_most_often() -> None:
    assert by_frequency(["drill", "scarf", "saw", "scarf", "saw", "scarf"]) == ["scarf"] * 3 + ["saw"] * 2 + ["drill"]
    assert by_frequency(["saw", "drill", "drill", "saw"]) == ["saw", "saw", "drill", "drill"], "the first one, of two"
    assert by_frequency([]) == []


def test_a_title_ends_wherever_a_line_does() -> None:
    """Tokenizers of large models know tokens such as a bracket with its line break."""
    tokenizer = make_tokenizer(make_items(40))
    tokenizer.add_tokens([")\n", "\n\n", "n)"])
    breaks = [token for token in range(len(tokenizer)) if "\n" in tokenizer.decode([token])]
    assert len(breaks) == 3, "the two, and the line break itself"
    assert stop_tokens(tokenizer) == sorted({*breaks, tokenizer.eos_token_id})
