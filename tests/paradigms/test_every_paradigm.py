"""Every registered paradigm against the kit; a new one is one more case."""

from pathlib import Path

import pytest
from transformers import PreTrainedModel

from kits.small import (
    make_backbone,
    make_item_codes,
    make_tokenizer,
    sasrec_recipe,
    semb_recipe,
    semid_recipe,
    text_recipe,
)
from mmgrid.data import Items
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.paradigms.semb.model import SembModel
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.paradigms.text.paradigm import Text
from mmgrid.testing.data import make_items
from mmgrid.testing.paradigm import ParadigmCase, ParadigmKit

pytestmark = pytest.mark.slow

DROPOUT = 0.02  # of attention, which takes half of the time of such a training
FEW_EPOCHS = {"pretrain": 2, "phase1": 2, "phase2": 2}


def _semb(dropout: float) -> ParadigmCase:
    recipe = semb_recipe(epochs=FEW_EPOCHS, batch_negatives=True)
    tokenizer = make_tokenizer(make_items(40))

    def make(items: Items) -> tuple[Semb, SembModel]:
        return Semb.create(recipe, make_backbone(tokenizer, layers=2, attention_dropout=dropout), tokenizer, seed=0)

    return ParadigmCase(make, recipe, learning_rate=1e-3, epochs=16)


def _sasrec(dropout: float) -> ParadigmCase:
    recipe = sasrec_recipe(epochs=FEW_EPOCHS)
    return ParadigmCase(
        lambda items: (Sasrec(recipe.history_length), Sasrec.create(recipe, items, seed=0)), recipe, learning_rate=5e-3
    )


def _semid(dropout: float) -> ParadigmCase:
    recipe = semid_recipe(epochs=FEW_EPOCHS)
    tokenizer = make_tokenizer(make_items(40))

    def make(items: Items) -> tuple[Semid, PreTrainedModel]:
        backbone = make_backbone(tokenizer, layers=2, head=True, attention_dropout=dropout)
        return Semid.create(recipe, backbone, tokenizer, make_item_codes(len(items)), "kitchen", seed=0)

    # Mixed tasks make many examples of a user, so few epochs are enough.
    return ParadigmCase(make, recipe, learning_rate=3e-3, epochs=9)


def _text(dropout: float) -> ParadigmCase:
    recipe = text_recipe(epochs=FEW_EPOCHS, targets_per_user=2)
    tokenizer = make_tokenizer(make_items(40))

    def make(items: Items) -> tuple[Text, PreTrainedModel]:
        return Text.create(recipe, make_backbone(tokenizer, head=True, attention_dropout=dropout), tokenizer)

    return ParadigmCase(make, recipe, learning_rate=3e-3, epochs=20)


CASES = {"text": _text, "semb": _semb, "sasrec": _sasrec, "semid": _semid}


@pytest.mark.parametrize("name", [name for name, spec in PARADIGMS.items() if spec.recipe])
class TestEveryParadigm(ParadigmKit):
    @pytest.fixture
    def case(self, name: str, dropout: float) -> ParadigmCase:
        return CASES[name](dropout)

    @pytest.fixture
    def dropout(self) -> float:
        return DROPOUT

    @pytest.mark.parametrize("dropout", [0.0])
    def test_learns_to_predict_the_next_item(self, case: ParadigmCase, items: Items, tmp_path: Path) -> None:
        super().test_learns_to_predict_the_next_item(case, items, tmp_path)
