"""The tiny backbone: a reproducible tokenizer, a model determined by its seed, and pre-training that learns."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kits.small import child_environment
from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.tiny import SPECIAL_TOKENS, TextRows, create, next_token_loss, train_tokenizer
from mmgrid.testing.data import make_items, same_weights
from mmgrid.training import TrainingRecipe
from mmgrid.training.fit import TrainingError, fit

ITEMS = make_items(300)
TEXTS = [f"{title} {text}" for title, text in zip(ITEMS.titles, ITEMS.descriptions, strict=True)]
TOKENIZER = train_tokenizer(TEXTS, 400)
SMALL = TinyRecipe(hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=64)


class TestTokenizer:
    @settings(max_examples=300, deadline=None)
    @given(st.text())
    def test_decodes_every_string_to_itself(self, text: str) -> None:
        assert TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False)["input_ids"]) == text

    def test_is_the_same_in_every_process(self, tmp_path: Path) -> None:
        """Whatever the hash seed of Python and the number of threads."""
        script = """
import sys
from mmgrid.testing.data import make_items
from mmgrid.backbone.tiny import train_tokenizer
items = make_items(300)
texts = [f"{title} {text}" for title, text in zip(items.titles, items.descriptions, strict=True)]
train_tokenizer(texts, 400).save_pretrained(sys.argv[1])
"""
        TOKENIZER.save_pretrained(str(tmp_path / "here"))
        conditions = [
            {"PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            {"PYTHONHASHSEED": "2", "RAYON_NUM_THREADS": "4", "TOKENIZERS_PARALLELISM": "true"},
        ]
        children = [
            subprocess.Popen([sys.executable, "-c", script, str(tmp_path / str(n))], env=child_environment(**values))
            for n, values in enumerate(conditions)
        ]
        assert [child.wait() for child in children] == [0, 0]
        expected = (tmp_path / "here" / "tokenizer.json").read_bytes()
        for n in range(len(conditions)):
            assert (tmp_path / str(n) / "tokenizer.json").read_bytes() == expected

    def test_has_at_most_the_requested_vocabulary(self) -> None:
        assert len(TOKENIZER) == 400
        assert len(train_tokenizer(TEXTS[:3], 5000)) < 500, "fewer where the text has not as many"
        assert TOKENIZER.convert_ids_to_tokens(list(range(len(SPECIAL_TOKENS)))) == SPECIAL_TOKENS
        assert TOKENIZER.eos_token_id == TOKENIZER.pad_token_id == 0

    def test_learns_the_words_of_its_texts(self) -> None:
        words, unknown = "red lamp number", "qzj xwvk ybfgh"
        assert len(TOKENIZER(words)["input_ids"]) < 0.6 * len(TOKENIZER(unknown)["input_ids"])


class TestModel:
    def test_depends_only_on_recipe_tokenizer_and_seed(self) -> None:
        torch.manual_seed(1)
        one = create(SMALL, TOKENIZER, seed=0)
        state = torch.random.get_rng_state()
        torch.manual_seed(2)
        same, other = create(SMALL, TOKENIZER, seed=0), create(SMALL, TOKENIZER, seed=1)
        assert same_weights(one, same)
        assert not same_weights(one, other)
        create(SMALL, TOKENIZER, seed=0)
        torch.manual_seed(1)
        create(SMALL, TOKENIZER, seed=5)
        assert torch.random.get_rng_state().equal(state), "the global generator is left as it was"

    def test_has_the_shape_of_its_recipe(self) -> None:
        model = create(SMALL, TOKENIZER, seed=0)
        assert model.lm_head.weight is model.model.embed_tokens.weight, "tied embeddings"
        assert model.model.embed_tokens.weight.shape == (400, 32)
        assert len(model.model.layers) == 2
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}

    def test_the_default_has_about_two_million_parameters(self) -> None:
        recipe = TinyRecipe()
        layer = 3 * 128 * 384 + 128 * (128 + 2 * 64 + 128)
        assert recipe.layers * layer + recipe.vocabulary * 128 == pytest.approx(1.8e6, rel=0.1)

    def test_heads_must_divide(self) -> None:
        with pytest.raises(ValidationError, match="hidden_size 32 must be a multiple of heads 3"):
            TinyRecipe(hidden_size=32, heads=3)


class TestTextRows:
    def test_every_token_occurs_once_in_the_order_of_the_seed(self) -> None:
        rows = TextRows(TOKENIZER, TEXTS, length=16, seed=0)
        flat = rows.rows.ravel().tolist()
        texts = {tuple(tokens): i for i, tokens in enumerate(TOKENIZER(TEXTS)["input_ids"])}
        found, text = [], []
        for token in flat:
            if token == TOKENIZER.eos_token_id:
                found.append(texts[tuple(text)])
                text = []
            else:
                text.append(token)
        assert len(set(found)) == len(found) >= len(TEXTS) - 2, "whole texts, each once, but for the cut-off end"
        assert found != sorted(found), "shuffled"
        total = sum(len(tokens) + 1 for tokens in texts)
        assert total - 16 < len(flat) <= total, "less than a row is left out"
        assert (TextRows(TOKENIZER, TEXTS, 16, seed=0).rows == rows.rows).all()
        assert (TextRows(TOKENIZER, TEXTS, 16, seed=1).rows != rows.rows).any()

    def test_an_example_is_a_row(self) -> None:
        rows = TextRows(TOKENIZER, TEXTS, length=16, seed=0)
        batch = rows.collate([rows.draw(index, epoch) for index, epoch in ((3, 0), (5, 2))])
        assert batch["input_ids"].tolist() == rows.rows[[3, 5]].tolist()

    @pytest.mark.parametrize("texts", [[], ["short"]])
    def test_too_little_text_is_an_error(self, texts: list[str], tmp_path: Path) -> None:
        rows = TextRows(TOKENIZER, texts, length=64, seed=0)
        assert len(rows) == 0
        recipe = TrainingRecipe(epochs=1, learning_rate=1e-3, batch_size=4)
        with pytest.raises(TrainingError, match="no training examples"):
            fit(create(SMALL, TOKENIZER, 0), rows, next_token_loss, recipe, tmp_path, seed=0)


class TestPretraining:
    def test_the_loss_is_that_of_predicting_the_next_token(self) -> None:
        model = create(SMALL, TOKENIZER, seed=0).eval()
        rows = TextRows(TOKENIZER, TEXTS, length=12, seed=0)
        batch = rows.collate([rows.draw(index, 0) for index in range(4)])
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"]).logits.double()
            expected = [
                -logits[row, place].log_softmax(0)[batch["input_ids"][row, place + 1]]
                for row in range(4)
                for place in range(11)
            ]
            assert next_token_loss(model, batch).item() == pytest.approx(float(np.mean(expected)), rel=1e-5)

    def test_twenty_steps_lower_the_loss(self, tmp_path: Path) -> None:
        rows = TextRows(TOKENIZER, TEXTS, length=32, seed=0)
        recipe = TrainingRecipe(epochs=20 * 16 / len(rows), learning_rate=5e-3, batch_size=16, warmup_ratio=0.1)
        model = create(SMALL, TOKENIZER, seed=0)
        report = fit(model, rows, next_token_loss, recipe, tmp_path, seed=0)
        assert report.steps == 20
        assert report.losses[0][2] == pytest.approx(np.log(len(TOKENIZER)), rel=0.05), "it begins by knowing nothing"
        assert report.losses[-1][2] < report.losses[0][2] - 1
