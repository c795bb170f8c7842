"""The memory of a training, computed without data, is that which autograd keeps of a real batch."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from kits.small import sasrec_recipe, semb_recipe, semid_recipe, text_recipe, untrained
from mmgrid.backbone.shape import Shape
from mmgrid.backbone.tiny import train_tokenizer
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import LOGITS_AT_ONCE, MicroBatch
from mmgrid.paradigms.semb.spec import SembRecipe
from mmgrid.paradigms.semid.tasks import ASK_CODES, HISTORY
from mmgrid.paradigms.shared.batch_bytes import kept_bytes
from mmgrid.paradigms.shared.sliced_loss import LARGEST_LOGITS
from mmgrid.paradigms.text.spec import TextRecipe
from mmgrid.paradigms.work import defaults
from mmgrid.testing.data import PHASE, make_histories, make_items
from mmgrid.training.activations import keeping
from mmgrid.training.decoder_activations import activations, config_of
from mmgrid.training.recomputation import recomputed

ITEMS = make_items(60)
CHAT = "<|im_start|>user\nTitle: Description: <|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [TextRecipe().prompt, f"{SembRecipe().prompt} title: description: ", HISTORY, ASK_CODES]
# It knows the words of prompts, as that of a language model does.
TOKENIZER = train_tokenizer([*ITEMS.titles, *ITEMS.descriptions, *[CHAT, *PROMPTS] * 30], 900)
HISTORIES = make_histories([[(user * 7 + step) % 60 for step in range(9)] for user in range(24)])
SHAPE = Shape(3, 32, 64, 2, 1, 16, len(TOKENIZER))


def _tokens(texts: list[str]) -> float:
    return float(np.mean([len(row) for row in TOKENIZER(texts)["input_ids"]]))


COUNTS = Counts(
    users=24,
    items=60,
    interactions={"pretrain": 216.0, "phase1": 0.0, "phase2": 0.0, "test": 0.0},
    test_users=24,
    title_tokens=_tokens(ITEMS.titles),
    text_tokens=_tokens([f"{title} {text}" for title, text in zip(ITEMS.titles, ITEMS.descriptions, strict=True)]),
)


def _started(name: str, precision: str, **more: Any) -> tuple[Any, Any, Any]:
    """A paradigm, its model, and its recipe, whose texts and answers are all as long as they may be."""
    options: Any = {"precision": precision, **more}
    if name == "sasrec":
        recipe = sasrec_recipe(dropout=0.2, **options)
    elif name == "semb":
        recipe = semb_recipe(text_tokens=4, title_tokens=4, **options)
    elif name == "text":
        recipe = text_recipe(text_tokens=6, title_tokens=3, **options)
    else:
        recipe = semid_recipe(every_position=True, mixed_tasks=False, item_group=0, **options)
    return *untrained(recipe, ITEMS, TOKENIZER), recipe


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("layers", [1, 4])
def test_a_decoder_keeps_what_was_computed(precision: str, layers: int) -> None:
    shape = SHAPE.of_layers(layers)
    model = AutoModel.from_config(config_of(shape)).train()
    states, visible = torch.zeros(5, 128, 32, requires_grad=True), torch.ones(5, 1, 128, 128, dtype=torch.bool)
    places = torch.arange(128)[None].expand(5, -1)
    with keeping(model.parameters()) as kept, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        out = model(inputs_embeds=states, attention_mask=visible, position_ids=places, use_cache=False)
    assert activations(shape.of_layers(1), 128, precision).bytes(layers, 5) == pytest.approx(kept.bytes, rel=0.01)
    assert out.last_hidden_state.requires_grad


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    "kind", ["gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "opt", "phi", "phi3", "qwen2", "qwen3"]
)
def test_what_a_decoder_keeps_is_that_of_its_own_kind(kind: str, precision: str) -> None:
    """With the dropout that its config has where it says nothing."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 32, "n_inner": 192}
    same = dict.fromkeys(("intermediate_size", "ffn_dim"), 192) | {"head_dim": 16, "word_embed_proj_dim": 64}
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    config = AutoConfig.for_model(kind, **sizes | same | ids, num_key_value_heads=2)
    model = AutoModel.from_config(config).train()
    states, visible = torch.zeros(3, 40, 64, requires_grad=True), torch.ones(3, 1, 40, 40, dtype=torch.bool)
    places = torch.arange(40)[None].expand(3, -1)
    with keeping(model.parameters()) as kept, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        out = model(inputs_embeds=states, attention_mask=visible, position_ids=places, use_cache=False)
    shape = Shape.of_config(json.loads(config.to_json_string()))
    assert activations(shape, 40, precision).bytes(2, 3) == pytest.approx(kept.bytes, rel=0.05)
    assert out.last_hidden_state.requires_grad


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", ["text", "semid", "semb", "sasrec"])
def test_the_largest_batch_of_a_paradigm_is_met_within_15_percent(name: str, precision: str) -> None:
    paradigm, model, recipe = _started(name, precision)
    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
    drawn = [examples.draw(index, 0) for index in range(len(examples))]
    if name in ("text", "semid"):  # the longest
        drawn.sort(key=len, reverse=True)
    else:
        drawn.sort(key=lambda one: -len(one[0]))
    batch = examples.collate(drawn[: recipe.batch_size])
    model.train()
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with keeping(model.parameters()) as kept, autocast:
        paradigm.loss(model, batch)
    values = defaults(type(recipe), recipe.model_dump())
    expected = PARADIGMS[name].batch(values, "pretrain", COUNTS, SHAPE)
    assert kept_bytes(expected, SHAPE, precision) == pytest.approx(kept.bytes, rel=0.15)


def test_a_prompt_among_the_tokens_of_a_text_leaves_fewer_to_the_text() -> None:
    """Where texts fill their tokens, 64 with a prompt of 10 among them are 54 beside it."""
    long = replace(COUNTS, text_tokens=500.0)
    within, beside = (
        PARADIGMS["semb"].batch(defaults(SembRecipe, values), "pretrain", long, SHAPE)
        for values in ({"text_tokens": 64, "prompt_counts": True}, {"text_tokens": 54})
    )
    assert within == beside


def test_micro_batches_that_share_negatives_hold_a_part_each_of_the_whole_batch() -> None:
    paradigm, model, recipe = _started("semb", "float32", accumulation=2, shared_negatives=True, batch_size=16)
    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
    drawn = sorted((examples.draw(index, 0) for index in range(len(examples))), key=lambda one: -len(one[0]))
    batch = examples.collate(drawn[: recipe.batch_size])
    model.train()
    with keeping(model.parameters()) as kept:  # of the model that computes it in one part
        paradigm.loss(model, batch)
    values = defaults(type(recipe), recipe.model_dump())
    part = kept_bytes(PARADIGMS["semb"].batch(values, "pretrain", COUNTS, SHAPE), SHAPE, "float32")
    assert 2 * part == pytest.approx(kept.bytes, rel=0.15)


def test_recomputed_layers_keep_their_inputs() -> None:
    paradigm, model, recipe = _started("text", "float32")
    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
    batch = examples.collate([examples.draw(index, 0) for index in range(recipe.batch_size)])
    model.train()
    with recomputed(model), keeping(model.parameters()) as kept:
        paradigm.loss(model, batch)
    values = defaults(type(recipe), recipe.model_dump())
    expected = PARADIGMS["text"].batch(values, "pretrain", COUNTS, SHAPE)
    whole, less = (kept_bytes(expected, SHAPE, "float32", recomputed=again) for again in (False, True))
    assert kept.bytes < less < whole, "one layer is computed again, and held, beside the inputs of all"


def test_many_logits_do_not_stay() -> None:
    assert LOGITS_AT_ONCE == LARGEST_LOGITS
    many = MicroBatch(logits=3.0 * LOGITS_AT_ONCE)
    assert many.logits_kept == 0
    assert many.logits_passing == LOGITS_AT_ONCE
    whole = MicroBatch(logits=3.0 * LOGITS_AT_ONCE, sliced=False)
    assert whole.logits_kept == whole.logits_passing == whole.logits
