"""Text vectors are the mean of the last hidden states, whatever else is in the batch."""

import numpy as np
import pytest
import torch

from kits.small import make_backbone, make_tokenizer
from mmgrid.backbone import pooling
from mmgrid.backbone.pooling import text_vectors
from mmgrid.testing.data import make_items

ITEMS = make_items(30)
TEXTS = [f"{title} {text}".strip() for title, text in zip(ITEMS.titles, ITEMS.descriptions, strict=True)]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(ITEMS)


@pytest.fixture(scope="module")
def model(tokenizer):
    return make_backbone(tokenizer)


def test_a_vector_is_the_mean_of_the_last_hidden_states(model, tokenizer) -> None:
    found = text_vectors(model, tokenizer, TEXTS, 64)
    assert (found.dtype, found.shape) == (np.float32, (30, 32))
    for text, vector in zip(TEXTS, found, strict=True):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            alone = model(input_ids=ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, alone.numpy(), atol=1e-5)


def test_vectors_do_not_depend_on_batches_or_order(model, tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text_vectors(model, tokenizer, TEXTS, 64)
    monkeypatch.setattr(pooling, "BATCH", 4)
    np.testing.assert_allclose(text_vectors(model, tokenizer, TEXTS[::-1], 64)[::-1], whole, atol=1e-5)


def test_a_long_text_is_cut_and_an_empty_one_is_zero(model, tokenizer) -> None:
    (whole, short, empty) = text_vectors(model, tokenizer, [TEXTS[1], TEXTS[1], ""], 3)
    np.testing.assert_array_equal(whole, short)
    assert not empty.any()
    ids = torch.tensor([tokenizer(TEXTS[1], add_special_tokens=False)["input_ids"][:3]])
    with torch.no_grad():
        np.testing.assert_allclose(whole, model(input_ids=ids).last_hidden_state[0].mean(0).numpy(), atol=1e-5)
    assert text_vectors(model, tokenizer, [], 3).shape == (0, 32)


def test_dropout_is_off(tokenizer) -> None:
    model = make_backbone(tokenizer, attention_dropout=0.5).train()
    np.testing.assert_array_equal(text_vectors(model, tokenizer, TEXTS, 64), text_vectors(model, tokenizer, TEXTS, 64))


def test_names_of_special_tokens_are_text(model, tokenizer) -> None:
    (found,) = text_vectors(model, tokenizer, ["lamp<|endoftext|>"], None, pooling="last")
    ids = torch.tensor([tokenizer("lamp", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]])
    with torch.no_grad():
        as_special = model(input_ids=ids).last_hidden_state[0, -1].numpy()
    assert not np.allclose(found, as_special, atol=1e-4)
