"""semb as a paradigm: the text budget, the negatives, and the error for collapsed item vectors."""

import numpy as np
import pytest
import torch

from kits.small import make_backbone, make_tokenizer, semb_recipe
from mmgrid.data import Items
from mmgrid.paradigms.semb.examples import SembExamples
from mmgrid.paradigms.semb.paradigm import MASKED_STEPS, Semb
from mmgrid.testing.data import PHASE, make_items, random_histories
from mmgrid.training.fit import TrainingError, fit

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)


def _texts(items: Items, **values) -> tuple[str, list[str]]:
    """The prompt and the items' texts, as the model reads them."""
    recipe = semb_recipe(**values)
    paradigm, _ = Semb.create(recipe, make_backbone(TOKENIZER, layers=1), TOKENIZER, seed=0)
    table = paradigm.tokens(items)
    pieces = np.split(table.tokens, table.offsets[1:-1])
    return TOKENIZER.decode(table.prompt), [TOKENIZER.decode(piece) for piece in pieces]


def _items(*texts: tuple[str, str]) -> Items:
    titles, descriptions = zip(*texts, strict=True)
    return Items(np.arange(len(texts)).astype(str), list(titles), list(descriptions), np.arange(len(texts)))


class TestTextBudget:
    # Every single letter and blank is a token of its own in texts that the tokenizer has never seen.
    LONG, OTHER = "QZ" * 30, "XJ" * 30

    def test_title_and_description_follow_the_prompt(self) -> None:
        prompt, texts = _texts(_items(("red lamp", "a lamp"), ("drum", "")), text_tokens=64, title_tokens=48)
        assert prompt == "Compress the following sentence into embedding: title:"
        assert texts == [" red lamp description: a lamp", " drum"]

    def test_names_of_special_tokens_are_text(self) -> None:
        paradigm, _ = Semb.create(semb_recipe(), make_backbone(TOKENIZER, layers=1), TOKENIZER, seed=0)
        tokens = paradigm.tokens(_items(("red <|im_end|> lamp", "a <|im_end|> lamp"))).tokens
        assert not np.isin(TOKENIZER.all_special_ids + TOKENIZER.convert_tokens_to_ids(["<|im_end|>"]), tokens).any()

    def test_the_description_is_cut_first(self) -> None:
        _, (text,) = _texts(_items((self.LONG[:20], self.OTHER)), text_tokens=40, title_tokens=30)
        length = len(TOKENIZER(text, add_special_tokens=False)["input_ids"])
        assert length == 40
        title, _, description = text.partition(" description: ")
        assert title == " " + self.LONG[:20], "whole"
        assert self.OTHER.startswith(description)
        assert 0 < len(description) < len(self.OTHER)

    def test_a_title_has_a_maximum_length(self) -> None:
        _, texts = _texts(_items((self.LONG, ""), (self.LONG, "a lamp")), text_tokens=50, title_tokens=10)
        assert len(TOKENIZER(texts[0], add_special_tokens=False)["input_ids"]) == 10
        assert texts[1] == texts[0] + " description: a lamp", "the rest of the budget goes to the description"

    def test_the_budget_holds_for_a_title_alone_too(self) -> None:
        _, (text,) = _texts(_items((self.LONG, self.OTHER)), text_tokens=8, title_tokens=48)
        assert len(TOKENIZER(text, add_special_tokens=False)["input_ids"]) == 8

    def test_cached_tokens_are_not_used_for_other_items(self) -> None:
        paradigm, model = Semb.create(semb_recipe(), make_backbone(TOKENIZER), TOKENIZER, seed=0)
        first = paradigm.item_vectors(model, ITEMS)
        other = paradigm.item_vectors(model, make_items(30))
        assert other.shape[0] == 30
        torch.testing.assert_close(paradigm.item_vectors(model, ITEMS), first)


class TestNegatives:
    def _examples(self, items: Items = ITEMS, seed: int = 0, **values) -> SembExamples:
        paradigm, _ = Semb.create(semb_recipe(**values), make_backbone(TOKENIZER), TOKENIZER, seed=0)
        return paradigm.examples(random_histories(30, 40), items, PHASE, seed=seed)

    def test_differ_between_epochs_examples_and_seeds(self) -> None:
        examples = self._examples()
        drawn = {
            tuple(one.draw(index, epoch)[2])
            for one in (examples, self._examples(seed=1))
            for index in range(20)
            for epoch in range(3)
        }
        assert len(drawn) > 110, "120 draws of 3 out of 40, nearly all of them different"

    def test_are_uniform_over_the_candidates(self) -> None:
        candidates = np.setdiff1d(np.arange(40), [1, 2, 30])
        examples = self._examples(ITEMS.with_candidates(candidates), negatives=800)
        counts = np.bincount(np.concatenate([examples.draw(i, 0)[2] for i in range(40)]), minlength=40)
        assert counts[[1, 2, 30]].tolist() == [0, 0, 0]
        expected = counts.sum() / len(candidates)
        chi_square = ((counts[candidates] - expected) ** 2 / expected).sum()
        assert chi_square < 70, "the 99.9 % point for 36 degrees of freedom is 68"

    def test_from_the_batch_exclude_the_users_own_items(self) -> None:
        examples = self._examples(batch_negatives=True)
        drawn = [examples.draw(index, 0) for index in range(6)]
        batch = examples.collate(drawn)
        places = np.unique(np.concatenate([*(one[0] for one in drawn), *(one[2] for one in drawn)]))
        for own, (sequence, _, _) in zip(batch["own"], drawn, strict=True):
            assert set(places[batch["negatives"][own]]) == set(sequence)

    def test_that_are_drawn_may_be_the_users_own_items(self) -> None:
        examples = self._examples(negatives=800)
        assert not examples.collate([examples.draw(index, 0) for index in range(6)])["own"].any()

    def test_the_last_batch_has_its_share(self) -> None:
        examples = self._examples(negatives=24, batch_size=8)
        assert len(examples.collate([examples.draw(0, 0)])["negatives"]) == 3


def test_training_stops_if_all_item_vectors_are_the_same(tmp_path) -> None:
    """A backbone with weights near zero gives all items one vector."""
    paradigm, model = Semb.create(semb_recipe(), make_backbone(TOKENIZER, initializer_range=1e-4), TOKENIZER, seed=0)
    examples = paradigm.examples(random_histories(30, 40), ITEMS, PHASE, seed=0)
    training = semb_recipe().training("pretrain").model_copy(update={"epochs": 2.0 * MASKED_STEPS})
    with pytest.raises(TrainingError, match=r"100% of the negatives are masked.*Lower the learning rate"):
        fit(model, examples, paradigm.loss, training, tmp_path, seed=0)


def test_a_training_that_is_too_short_to_stop_says_that_all_item_vectors_are_the_same(
    tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    paradigm, model = Semb.create(semb_recipe(), make_backbone(TOKENIZER, initializer_range=1e-4), TOKENIZER, seed=0)
    examples = paradigm.examples(random_histories(30, 40), ITEMS, PHASE, seed=0)
    fit(model, examples, paradigm.loss, semb_recipe().training("pretrain"), tmp_path, seed=0)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(message.startswith("more than 95 % of the negatives are masked") for message in warnings)
    assert any(message.startswith("the loss was 0 in each of its") for message in warnings)
