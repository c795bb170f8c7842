"""New rows follow the old ones, with the same statistics, and leave the logits of old tokens unchanged."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mmgrid.backbone.token_rows import append_token_rows, token_tables

WORDS = 40


def make(tied: bool) -> PreTrainedModel:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=WORDS, tie_word_embeddings=tied, pad_token_id=None))
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(3).add_(0.5)
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_old_rows_stay_and_new_ones_have_their_statistics(tied: bool) -> None:
    model, before = make(tied), make(tied)
    ids = torch.arange(WORDS)[None]
    assert append_token_rows(model, 3000, seed=1) == WORDS
    names = token_tables(model)
    assert names == (["model.embed_tokens.weight"] if tied else ["model.embed_tokens.weight", "lm_head.weight"])
    for name in names:
        old, new = before.state_dict()[name], model.state_dict()[name]
        assert new.shape == (WORDS + 3000, 16)
        assert new[:WORDS].equal(old)
        torch.testing.assert_close(new[WORDS:].mean(0), old.mean(0), rtol=0, atol=0.1 * float(old.std()))
        torch.testing.assert_close(new[WORDS:].std(0), old.std(0, correction=0), rtol=0.1, atol=0)
    assert model(input_ids=ids).logits[..., :WORDS].equal(before(input_ids=ids).logits)
    assert model.config.vocab_size == WORDS + 3000


def test_new_rows_depend_on_the_seed_alone() -> None:
    rows = []
    for seed in (1, 1, 2):
        model = make(tied=True)
        torch.rand(seed)  # whatever else draws
        append_token_rows(model, 5, seed)
        rows.append(model.get_input_embeddings().weight[WORDS:])
    assert rows[0].equal(rows[1])
    assert not rows[0].equal(rows[2])
    assert len(rows[0].unique(dim=0)) == 5
