"""The loss and the lists of semid against their definitions; the kit tests what holds for all paradigms."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from kits.small import make_backbone, make_item_codes, make_tokenizer, semid_recipe
from mmgrid.backbone.load import BackboneError
from mmgrid.data import Items
from mmgrid.evaluation import NOT_RANKED
from mmgrid.merging import BlockTable
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.paradigms.semid.token_rows import first_rows
from mmgrid.semantic_ids.item_codes import ItemCodes
from mmgrid.testing.data import PHASE, make_histories, make_items, random_histories

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)


def make(items: Items = ITEMS, codes: ItemCodes | None = None, **values) -> tuple[Semid, PreTrainedModel]:
    return Semid.create(
        semid_recipe(**values),
        make_backbone(TOKENIZER, head=True),
        TOKENIZER,
        codes or make_item_codes(len(items)),
        "kitchen/12345678",
        seed=0,
    )


def test_a_codes_loss_is_over_its_level_and_a_words_over_all_tokens() -> None:
    paradigm, model = make(code_weight=10.0)
    examples = paradigm.examples(random_histories(10, 40), ITEMS, PHASE, seed=0)
    drawn = [examples.draw(index, 0) for index in range(0, len(examples), 3)]
    total, weights = 0.0, 0.0
    first, levels = paradigm.config["first_token"], paradigm.level_tokens
    with torch.no_grad():
        for dialogue in drawn:
            logits = model(input_ids=torch.from_numpy(dialogue.tokens)[None]).logits[0].double()
            for place in np.flatnonzero(dialogue.is_answer):
                token, before = int(dialogue.tokens[place]), logits[place - 1]
                if token >= first:
                    level = levels[(token - first) // levels.shape[1]]
                    total += 10 * float(
                        F.cross_entropy(before[torch.from_numpy(level)], torch.tensor(token - level[0]))
                    )
                    weights += 10
                else:
                    total += float(F.cross_entropy(before, torch.tensor(token)))
                    weights += 1
        loss = paradigm.loss(model, examples.collate(drawn))
    assert float(loss) == pytest.approx(total / weights, rel=1e-5)


def test_a_batch_of_codes_alone_or_words_alone_has_a_loss() -> None:
    paradigm, model = make(item_group=0)
    examples = paradigm.examples(random_histories(10, 40), ITEMS, PHASE, seed=0)
    assert torch.isfinite(paradigm.loss(model, examples.collate([examples.draw(0, 0)])))


def test_logits_are_computed_only_for_labels(monkeypatch) -> None:
    paradigm, model = make()
    examples = paradigm.examples(random_histories(10, 40), ITEMS, PHASE, seed=0)
    batch = examples.collate([examples.draw(index, 0) for index in range(len(examples))])
    made = []
    real = F.linear

    def watch(states: torch.Tensor, weight: torch.Tensor, bias=None) -> torch.Tensor:
        if weight.shape[0] in (paradigm.level_tokens.size, model.config.vocab_size):  # of codes, of all tokens
            made.append(states.shape[:-1].numel() * weight.shape[0])
        return real(states, weight, bias)

    monkeypatch.setattr(F, "linear", watch)
    paradigm.loss(model, batch)
    is_code = batch["labels"] >= paradigm.config["first_token"]
    rows, vocabulary = len(batch["input_ids"]), model.config.vocab_size
    expected = int((~is_code).sum()) * vocabulary + int(is_code.sum()) * paradigm.level_tokens.size
    assert sum(made) <= expected + rows * vocabulary
    assert sum(made) < batch["input_ids"].numel() * vocabulary / 2


def test_items_with_the_same_code_are_listed_in_an_order_that_depends_on_the_user() -> None:
    codes = ItemCodes(np.zeros((40, 3), np.int32), 8)
    paradigm, model = make(codes=codes)
    histories = make_histories([[user % 40] for user in range(200)])
    best, scores = paradigm.recommend(model, histories, ITEMS, 39)
    assert (np.sort(best, axis=1) == [np.delete(np.arange(40), user % 40) for user in range(200)]).all()
    assert np.ptp(scores, axis=1).max() == 0
    assert len(np.unique(best[:, 0])) > 25, "the order depends on the user"


def test_a_target_that_the_beam_search_does_not_find_has_no_rank() -> None:
    paradigm, model = make(beam_width=5)  # narrower than metrics at 20 need
    histories = random_histories(20, 40)
    best, _ = paradigm.recommend(model, histories, ITEMS, 20)
    others = np.array([np.setdiff1d(np.arange(40), [*best[u], *histories.of(u)])[0] for u in range(20)])
    assert (paradigm.rank(model, histories, ITEMS, others) == NOT_RANKED).all()
    assert (paradigm.rank(model, histories, ITEMS, best[:, 3]) == 3).all()


def test_items_without_a_code_are_never_recommended() -> None:
    table = make_item_codes(40).codes.copy()
    table[30:] = -1
    paradigm, model = make(codes=ItemCodes(table, 8))
    best, _ = paradigm.recommend(model, make_histories([[35, 1], [2, 3]]), ITEMS, 40)
    assert best.max() < 30


def test_codes_of_another_domain_are_refused() -> None:
    paradigm, model = make()
    with pytest.raises(ValueError, match="semantic IDs of 40 items, but the domain has 41"):
        paradigm.recommend(model, make_histories([[1]]), make_items(41), 5)


def test_the_declared_blocks_are_the_backbones_rows_and_the_domains() -> None:
    paradigm, model = make()
    words = len(TOKENIZER)
    blocks = paradigm.facts(model)["blocks"]
    assert blocks["tensors"] == ["model.embed_tokens.weight"]
    backbone, kitchen = blocks["rows"]
    assert backbone == {"name": "backbone", "start": 0, "stop": words}
    assert (kitchen["name"], kitchen["start"], kitchen["stop"]) == ("kitchen/12345678", words, words + 24)
    assert (kitchen["domain"], len(kitchen["tokens"])) == ("kitchen", 24)


def test_initial_rows_depend_on_the_blocks_name_and_can_be_drawn_again(tmp_path) -> None:
    backbone = make_backbone(TOKENIZER, head=True)
    backbone.save_pretrained(str(tmp_path))
    TOKENIZER.save_pretrained(str(tmp_path))
    _, model = make()
    own = model.get_input_embeddings().weight[len(TOKENIZER) :].detach().numpy()
    assert (first_rows(tmp_path, "kitchen/12345678", 24, seed=0) == own).all()
    assert (first_rows(tmp_path, "garden/12345678", 24, seed=0) != own).all()


def test_a_saved_model_is_a_plain_language_model(tmp_path) -> None:
    paradigm, model = make()
    paradigm.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "qwen3"
    assert config["mmgrid"]["paradigm"] == "semid"
    assert config["vocab_size"] == len(TOKENIZER) + 24


def test_a_target_without_a_code_is_no_example() -> None:
    codes = make_item_codes(40).codes.copy()
    codes[[3, 7]] = -1
    histories = make_histories([[1, 2, 3], [4, 5, 7, 6], [8, 3, 7]])
    for every in (False, True):
        paradigm, model = make(codes=ItemCodes(codes, 8), every_position=every, item_group=0)
        examples = paradigm.examples(histories, ITEMS, PHASE, seed=0)
        drawn = [examples.draw(index, epoch) for index in range(len(examples)) for epoch in range(4)]
        assert all((dialogue.tokens >= 0).all() and dialogue.is_answer.any() for dialogue in drawn)
        assert torch.isfinite(paradigm.loss(model, examples.collate(drawn)))
        assert examples.sequences == (2 if every else 3)  # none for the third user, whose targets have no code


def test_a_saved_model_declares_its_token_rows(tmp_path) -> None:
    paradigm, model = make()
    paradigm.save(model, tmp_path)
    table = BlockTable.read(tmp_path)
    assert table is not None
    assert [block.name for block in table.blocks] == ["backbone", "kitchen/12345678"]


def test_a_config_that_lacks_a_value_is_refused() -> None:
    paradigm, _ = make()
    config = {name: value for name, value in paradigm.config.items() if name != "first_token"}
    with pytest.raises(ValueError, match=r"config\.json lacks `mmgrid\.first_token`; is this a semid checkpoint"):
        Semid(config, TOKENIZER, paradigm.codes)


def test_a_tokenizer_with_more_tokens_than_rows_is_refused_before_training() -> None:
    larger = make_tokenizer(ITEMS)
    larger.add_tokens(["<more>"])
    with pytest.raises(
        BackboneError, match=rf"the tokenizer has {len(larger)} tokens, and the model rows for \d+; put"
    ):
        Semid.create(
            semid_recipe(), make_backbone(TOKENIZER, head=True), larger, make_item_codes(len(ITEMS)), "b/1", seed=0
        )
