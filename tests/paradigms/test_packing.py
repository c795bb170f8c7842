"""Packed items: no token is lost, items do not affect each other, and vectors equal those of each item alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from kits.small import make_backbone, make_tokenizer, semb_recipe
from mmgrid.paradigms.semb.model import SembModel
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.shared.packing import PackedItems, TokenTable, attention_mask, pack
from mmgrid.testing.data import make_items

TEXTS = st.lists(st.lists(st.integers(1, 99), max_size=12), min_size=1, max_size=25)


def _unpacked(packed: PackedItems, prompt: int) -> list[list[int]]:
    """The tokens of each item, read back from its segment."""
    width = packed.input_ids.shape[1]
    texts = []
    for place in packed.item_places.tolist():
        row, column = divmod(place, width)
        own = (packed.segments[row] == packed.segments[row, column]).nonzero()[:, 0].tolist()
        assert own == list(range(own[0], column + 1)), "a segment is in one piece and [ITEM] stands at its end"
        assert packed.position_ids[row, own].tolist() == list(range(prompt, prompt + len(own)))
        texts.append(packed.input_ids[row, own[:-1]].tolist())
    return texts


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=5), TEXTS, st.integers(1, 60), st.randoms())
def test_no_token_is_lost(prompt: list[int], texts: list[list[int]], row_width: int, random) -> None:
    table = TokenTable.of(prompt, texts)
    order = list(range(len(texts)))
    random.shuffle(order)
    packed = pack(table, np.array(order), row_width)
    assert _unpacked(packed, len(prompt)) == [texts[item] for item in order]
    assert (packed.input_ids[:, : len(prompt)] == torch.tensor(prompt)).all()
    assert (packed.segments == 0).sum() == len(prompt) * len(packed.segments), "the prompt stands once a row"
    used = int((packed.segments > 0).sum())
    assert used == sum(len(text) + 1 for text in texts)
    assert packed.item_places.unique().numel() == len(texts)
    longest = len(prompt) + 1 + max(len(text) for text in texts)
    assert packed.segments.shape[1] <= max(row_width, longest)


@settings(max_examples=50, deadline=None)
@given(TEXTS)
def test_a_token_attends_to_the_prompt_and_to_its_own_item_up_to_itself(texts: list[list[int]]) -> None:
    segments = pack(TokenTable.of([7, 8], texts), np.arange(len(texts)), 24).segments
    mask = attention_mask(segments)
    assert mask.shape == (len(segments), 1, segments.shape[1], segments.shape[1])
    rows, width = segments.shape
    expected = [
        [[j <= i and int(segments[r, j]) in (0, int(segments[r, i])) for j in range(width)] for i in range(width)]
        for r in range(rows)
    ]
    assert mask[:, 0].tolist() == expected
    assert mask.any(-1).all(), "a row of the mask without True would give NaN"


def test_little_is_wasted_on_padding() -> None:
    """Texts of about 17 tokens, similar to titles: less than 3 % padding."""
    lengths = np.random.default_rng(0).integers(3, 32, 900)
    table = TokenTable.of(range(1, 11), [range(1, length + 1) for length in lengths])
    packed = pack(table, np.arange(900))
    assert float((packed.segments < 0).float().mean()) < 0.03


@pytest.fixture(scope="module")
def semb() -> tuple[Semb, SembModel]:
    items = make_items(40)
    tokenizer = make_tokenizer(items)
    paradigm, model = Semb.create(semb_recipe(), make_backbone(tokenizer), tokenizer, seed=0)
    return paradigm, model.eval()


def _alone(paradigm: Semb, model: SembModel, item: int, table: TokenTable) -> torch.Tensor:
    """An item's vector without packing: one row, no mask, no position ids."""
    text = table.tokens[table.offsets[item] : table.offsets[item + 1]]
    embedded = model.item_tower.get_input_embeddings()(torch.tensor([*table.prompt, *text], dtype=torch.long))
    sequence = torch.cat([embedded, model.item_token[None]])[None]
    return model.item_tower(inputs_embeds=sequence, use_cache=False).last_hidden_state[0, -1]


@pytest.mark.parametrize("row_width", [1, 40, 128, 1000])
@torch.no_grad()
def test_vectors_are_those_of_each_item_alone(semb: tuple[Semb, SembModel], row_width: int) -> None:
    paradigm, model = semb
    table = paradigm.tokens(make_items(40))
    order = np.random.default_rng(row_width).permutation(40)
    together = model.encode_items(**pack(table, order, row_width).tensors())
    expected = torch.stack([_alone(paradigm, model, item, table) for item in order.tolist()])
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_item_without_text_is_its_prompt(semb: tuple[Semb, SembModel]) -> None:
    paradigm, model = semb
    table = TokenTable.of(paradigm.tokens(make_items(40)).prompt, [[], [5, 6], []])
    vectors = model.encode_items(**pack(table, np.arange(3)).tensors())
    torch.testing.assert_close(vectors[0], vectors[2])
    torch.testing.assert_close(vectors[0], _alone(paradigm, model, 0, table), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_vectors_are_the_same_under_every_kind_of_attention(semb, tmp_path) -> None:
    """Eager attention adds the mask to the logits; a boolean mask would let items affect each other."""
    paradigm, model = semb
    paradigm.save(model, tmp_path)
    items = make_items(40)
    eager = AutoModel.from_pretrained(str(tmp_path), attn_implementation="eager")
    assert eager.item_tower.config._attn_implementation == "eager"
    torch.testing.assert_close(
        paradigm.item_vectors(eager, items), paradigm.item_vectors(model, items), rtol=1e-5, atol=1e-5
    )
