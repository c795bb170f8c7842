"""Titles through vLLM, in a separate virtual environment: `make test-vllm`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kits.small import make_backbone, make_tokenizer, text_recipe
from kits.vllm import needs_vllm
from mmgrid.paradigms.text.engines import HuggingFaceGenerator, VllmGenerator
from mmgrid.paradigms.text.paradigm import Text
from mmgrid.testing.data import PHASE, make_histories, make_items
from mmgrid.training.fit import fit

needs_vllm()

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
TITLE_TOKENS = 12
ENGINE = {"enforce_eager": True, "max_model_len": 256, "max_num_seqs": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has learned to generate titles, so that they differ, and end at line breaks."""
    # vLLM's attention has kernels for a few widths of a head only; 32 is the smallest of them.
    backbone = make_backbone(TOKENIZER, head=True, head_dim=32)
    recipe = text_recipe(title_tokens=TITLE_TOKENS)
    paradigm, model = Text.create(recipe, backbone, TOKENIZER)
    histories = make_histories([[(user * 7 + step) % 40 for step in range(9)] for user in range(40)])
    training = recipe.training("pretrain").model_copy(update={"epochs": 20, "learning_rate": 3e-3})
    fit(
        model,
        paradigm.examples(histories, ITEMS, PHASE, 0),
        paradigm.loss,
        training,
        tmp_path_factory.mktemp("steps"),
        seed=0,
    )
    found = tmp_path_factory.mktemp("checkpoint")
    paradigm.save(model, found)
    return found


@pytest.fixture(scope="module")
def prompts(folder: Path) -> list[np.ndarray]:
    paradigm, _ = Text.load(folder)
    rng = np.random.default_rng(0)
    return [paradigm.prompts(ITEMS).question(rng.choice(40, rng.integers(1, 7), replace=False)) for _ in range(24)]


@pytest.fixture(scope="module")
def generator(folder: Path) -> Iterator[VllmGenerator]:
    found = VllmGenerator(folder, title_tokens=TITLE_TOKENS, **ENGINE)
    yield found
    found.close()


def test_greedy_titles_are_those_of_transformers(folder: Path, generator: VllmGenerator, prompts) -> None:
    _, model = Text.load(folder)
    expected = HuggingFaceGenerator(model, TOKENIZER, title_tokens=TITLE_TOKENS).titles(prompts, 1)
    assert len({title for (title,) in expected}) > 8, "otherwise there is nothing to compare"
    assert generator.titles(prompts, 1) == expected


def test_samples_depend_only_on_the_prompt(generator: VllmGenerator, prompts) -> None:
    found = generator.titles(prompts, 5)
    assert [len(titles) for titles in found] == [5] * len(prompts)
    assert sum(len(set(titles)) > 1 for titles in found) > len(prompts) / 2, "they are samples"
    for titles in found:
        counts = [titles.count(title) for title in titles]
        assert counts == sorted(counts, reverse=True), "the most frequent come first"
    assert generator.titles(prompts, 5) == found
    assert generator.titles(prompts[::-1][:7], 5) == found[::-1][:7], "independent of other prompts"


def test_titles_end_at_the_line_break(generator: VllmGenerator, prompts) -> None:
    titles = [title for found in generator.titles(prompts, 5) for title in found]
    assert not any("\n" in title or "Title:" in title for title in titles)
    known = sum(title in set(ITEMS.titles) for title in titles)
    assert known > len(titles) / 4, "whole titles, as it learned them"


def test_a_beam_shares_titles_with_that_of_transformers(folder: Path, generator: VllmGenerator, prompts) -> None:
    generator.decoding = "beam"
    try:
        found = generator.titles(prompts[:3], 3)
    finally:
        generator.decoding = "sampling"
    assert [len(titles) for titles in found] == [3] * 3
    _, model = Text.load(folder)
    expected = HuggingFaceGenerator(model, TOKENIZER, title_tokens=TITLE_TOKENS).titles(prompts[:3], 3)
    shared = [len(set(ours) & set(theirs)) for ours, theirs in zip(found, expected, strict=True)]
    assert sum(shared) >= 3, (found, expected)


def test_text_recommends_through_it(folder: Path) -> None:
    """With `engine = "vllm"`, the given model is written to a folder and read by an engine."""
    paradigm, model = Text.load(folder)
    paradigm.recipe = text_recipe(title_tokens=TITLE_TOKENS, titles=1)
    histories = make_histories([[1, 2, 3, 4, 5], [9, 10, 11]])
    expected = paradigm.recommend(model, histories, ITEMS, 5)
    paradigm.recipe = text_recipe(title_tokens=TITLE_TOKENS, titles=1, engine="vllm", engine_options=ENGINE)
    assert (paradigm.recommend(model, histories, ITEMS, 5)[0] == expected[0]).all()


def test_empty_prompts_are_refused(generator: VllmGenerator) -> None:
    assert generator.titles([], 3) == []
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        generator.titles([[1, 2], []], 3)
