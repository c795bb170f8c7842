"""`last_state_only` gives the same last state and the same cache as a full read of the prompt."""

import pytest
import torch
from test_beam_search import make_model, make_prompts
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from mmgrid.decoding.kv_cache import PreallocatedCache, cache_argument
from mmgrid.decoding.last_state import last_state_only


@torch.no_grad()
def read(model: PreTrainedModel, ids: Tensor, mask: Tensor | None, cache: PreallocatedCache | DynamicCache) -> Tensor:
    positions = (torch.ones_like(ids) if mask is None else mask).cumsum(1) - 1
    return model.get_decoder()(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions.clamp(min=0),
        **cache_argument(model, cache),
        use_cache=True,
    ).last_hidden_state


@pytest.mark.parametrize(
    ("kind", "attention"),
    [("qwen", "sdpa"), ("qwen", "eager"), ("llama", "sdpa"), ("llama", "eager"), ("gemma", "eager")],
)
@pytest.mark.parametrize("lengths", [[7, 7], [3, 7], [1, 1]])
def test_last_state_and_cache_equal_those_of_a_full_read(kind, attention, lengths):
    model = make_model(kind, attention)
    ids, mask = make_prompts(lengths)
    given = None if len(set(lengths)) == 1 else mask
    plain, roomy = DynamicCache(), PreallocatedCache(3)
    states = read(model, ids, given, plain)
    with last_state_only(model.get_decoder()):
        last = read(model, ids, given, roomy)
    torch.testing.assert_close(last[:, -1], states[:, -1])
    for ours, theirs in zip(roomy.layers, plain.layers, strict=True):
        for row, length in enumerate(lengths):  # padding is never attended to
            torch.testing.assert_close(ours.keys[row, :, -length:], theirs.keys[row, :, -length:])
            torch.testing.assert_close(ours.values[row, :, -length:], theirs.values[row, :, -length:])


def test_other_states_are_left_out_for_layers_like_those_of_llama():
    ids, _ = make_prompts([6, 6])
    places = {}
    for kind in ("llama", "gemma"):
        model = make_model(kind, "eager")
        with last_state_only(model.get_decoder()):
            places[kind] = read(model, ids, None, DynamicCache()).shape[1]
        assert read(model, ids, None, DynamicCache()).shape[1] == 6  # only within the context
    assert places == {"llama": 1, "gemma": 6}


def test_a_full_cache_is_an_error():
    cache = PreallocatedCache(1)
    states = torch.arange(6.0).view(1, 1, 3, 2)
    cache.update(states, states, 0)
    keys, _ = cache.update(states[:, :, :1], states[:, :, :1], 0)
    assert keys[0, 0].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
    with pytest.raises(ValueError, match="5 positions do not fit into a cache of 4"):
        cache.update(states[:, :, :1], states[:, :, :1], 0)
