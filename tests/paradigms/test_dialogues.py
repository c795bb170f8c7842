"""Packed dialogues: no token is lost, dialogues do not affect each other, and only answers enter the loss."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from kits.small import make_backbone, make_tokenizer
from mmgrid.backbone.load import BackboneError
from mmgrid.paradigms.shared.dialogues import Dialogue, answer_logits, answer_states, check_packing, collate
from mmgrid.testing.data import make_items

TOKENIZER = make_tokenizer(make_items(40))
TURNS = st.lists(
    st.tuples(
        st.lists(st.integers(1, 99), min_size=1, max_size=8), st.lists(st.integers(1, 99), min_size=1, max_size=5)
    ),
    min_size=1,
    max_size=3,
)


def _some(n: int = 9, seed: int = 0) -> list[Dialogue]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, (n, 4))
    return [
        Dialogue.of(
            *((rng.integers(99, size=a).tolist(), rng.integers(99, size=b).tolist()) for a, b in ((w, x), (y, z)))
        )
        for w, x, y, z in lengths.tolist()
    ]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_backbone(TOKENIZER, head=True).eval()


def test_questions_and_answers_take_turns() -> None:
    dialogue = Dialogue.of(([1, 2], [3]), (np.array([4]), np.array([5, 6])))
    assert dialogue.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert dialogue.is_answer.tolist() == [False, False, True, False, True, True]
    assert len(dialogue) == 6


@settings(max_examples=150, deadline=None)
@given(st.lists(TURNS, min_size=1, max_size=12), st.integers(1, 60))
def test_no_token_is_lost_and_each_label_follows_its_place(turns, row_width: int) -> None:
    dialogues = [Dialogue.of(*of_one) for of_one in turns]
    batch = collate(dialogues, row_width)
    rows, width = batch["input_ids"].shape
    assert width <= max(row_width, max(map(len, dialogues)))
    labelled = iter(zip(batch["places"].tolist(), batch["labels"].tolist(), strict=True))
    seen = set()
    for dialogue in dialogues:
        for place in np.flatnonzero(dialogue.is_answer).tolist():
            before, label = next(labelled)
            assert label == dialogue.tokens[place]
            row, column = divmod(before, width)
            own = (batch["segments"][row] == batch["segments"][row, column]).nonzero()[:, 0]
            assert batch["input_ids"][row, own].tolist() == dialogue.tokens.tolist()
            assert batch["position_ids"][row, own].tolist() == list(range(len(dialogue)))
            assert batch["position_ids"][row, column] == place - 1
            seen.add((row, int(batch["segments"][row, column])))
    assert next(labelled, None) is None
    assert len(seen) == len(dialogues), "each dialogue has its own segment"
    assert int((batch["segments"] > 0).sum()) == sum(map(len, dialogues))
    assert rows <= len(dialogues)


@pytest.fixture(scope="module")
def absolute() -> PreTrainedModel:
    """A model with learned position embeddings, whose output depends on `position_ids`."""
    options = {"vocab_size": len(TOKENIZER), "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(**options, bos_token_id=0, eos_token_id=0, initializer_range=0.2)).eval()


@pytest.mark.parametrize("kind", ["model", "absolute"])
@pytest.mark.parametrize("row_width", [1, 40, 500])
@torch.no_grad()
def test_states_and_logits_are_those_of_each_dialogue_alone(kind: str, row_width: int, request) -> None:
    model = request.getfixturevalue(kind)
    dialogues = _some()
    batch = collate(dialogues, row_width)
    states, logits = [], []
    for dialogue in dialogues:
        whole = model(torch.from_numpy(dialogue.tokens)[None], output_hidden_states=True)
        before = torch.from_numpy(np.flatnonzero(dialogue.is_answer) - 1)
        states.append(whole.hidden_states[-1][0, before])
        logits.append(whole.logits[0, before])
    torch.testing.assert_close(answer_states(model, batch), torch.cat(states), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answer_logits(model, batch), torch.cat(logits), rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_full_loss_on_padded_rows(model: PreTrainedModel) -> None:
    """The usual way: one row per dialogue, padded at the end, all logits, label -100 outside answers."""
    dialogues = _some(seed=1)
    width = max(map(len, dialogues))
    ids, mask = torch.zeros(len(dialogues), width, dtype=torch.long), torch.zeros(len(dialogues), width)
    labels = torch.full((len(dialogues), width), -100)
    for row, dialogue in enumerate(dialogues):
        tokens, answer = torch.from_numpy(dialogue.tokens), torch.from_numpy(dialogue.is_answer)
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        labels[row, : len(tokens)] = torch.where(answer, tokens, -100)
    expected = model(ids, attention_mask=mask, labels=labels).loss
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    batch = collate(dialogues)
    loss = F.cross_entropy(answer_logits(model, batch), batch["labels"])
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for found, one in zip(torch.autograd.grad(loss, list(model.parameters())), wanted, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_eager_attention_gives_the_same(model: PreTrainedModel) -> None:
    batch = collate(_some())
    expected = answer_logits(model, batch)
    eager = make_backbone(TOKENIZER, head=True).eval()
    eager.set_attn_implementation("eager")
    torch.testing.assert_close(answer_logits(eager, batch), expected, rtol=1e-4, atol=1e-4)


def test_a_model_in_which_packed_dialogues_affect_each_other_is_refused(model: PreTrainedModel) -> None:
    check_packing(model)
    mixed = make_backbone(TOKENIZER, head=True)
    # A convolution over the row, as in hybrid architectures, ignores the attention mask.
    mixed.get_decoder().layers[1].register_forward_hook(
        lambda _module, _inputs, hidden: hidden + hidden.roll(1, dims=1)
    )
    with pytest.raises(BackboneError, match="depend on other dialogues in the row"):
        check_packing(mixed)
