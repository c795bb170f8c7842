"""Every registered paradigm against the kit; a new one is one more case."""

import pytest

from kits.paradigm import ParadigmCase, ParadigmKit
from kits.small import make_backbone, make_items, make_tokenizer, sasrec_recipe, semb_recipe
from mmgrid.paradigms import RECIPES
from mmgrid.paradigms.sasrec import Sasrec
from mmgrid.paradigms.semb import Semb

FEW_EPOCHS = {"pretrain": 2, "phase1": 2, "phase2": 2}


def _semb() -> ParadigmCase:
    recipe = semb_recipe(epochs=FEW_EPOCHS, batch_negatives=True)
    tokenizer = make_tokenizer(make_items(40))
    return ParadigmCase(
        lambda items: Semb.create(recipe, make_backbone(tokenizer, attention_dropout=0.02), tokenizer, seed=0),
        recipe,
        learning_rate=1e-3,
    )


def _sasrec() -> ParadigmCase:
    recipe = sasrec_recipe(epochs=FEW_EPOCHS)
    return ParadigmCase(
        lambda items: (Sasrec(recipe.history_length), Sasrec.create(recipe, items, seed=0)), recipe, learning_rate=5e-3
    )


CASES = {"semb": _semb, "sasrec": _sasrec}


@pytest.mark.parametrize("name", list(RECIPES))
class TestEveryParadigm(ParadigmKit):
    @pytest.fixture
    def case(self, name: str) -> ParadigmCase:
        return CASES[name]()
