"""Training in less memory: the same gradients from chunks of items and slices of logits, the same weights recomputed."""

import sys
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kits.small import make_tokenizer, sasrec_recipe, semb_recipe, semid_recipe, text_recipe, untrained
from mmgrid.paradigms.contract import TrainingStart
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.shared import sliced_loss
from mmgrid.paradigms.shared.sliced_loss import summed_cross_entropy
from mmgrid.testing.data import PHASE, make_histories, make_items, same_weights
from mmgrid.training.activations import keeping
from mmgrid.training.fit import TrainingError, fit
from mmgrid.training.recomputation import recomputed

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
HISTORIES = make_histories([[(user * 7 + step) % 40 for step in range(9)] for user in range(24)])


RECIPES = {"sasrec": sasrec_recipe(dropout=0.3), "semb": semb_recipe(batch_negatives=True)}
RECIPES |= {"text": text_recipe(), "semid": semid_recipe()}


def started(name: str) -> tuple[Any, Any]:
    """A paradigm and its untrained model."""
    return untrained(RECIPES[name], ITEMS, TOKENIZER)


def batch_of(paradigm: Any) -> dict[str, Any]:
    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
    return examples.collate([examples.draw(index, 0) for index in range(8)])


def gradients(paradigm: Any, model: nn.Module, batch: dict[str, Any]) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    loss = paradigm.loss(model, batch)
    loss.backward()
    return float(loss.detach()), {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize("rows", [1, 2, 3, 1000])
def test_chunks_of_items_give_the_same_loss_and_gradients(rows: int) -> None:
    paradigm, model = started("semb")
    model = model.double()
    batch = batch_of(paradigm)
    assert len(batch["input_ids"]) > 3, "otherwise there are no chunks"
    whole = gradients(paradigm, model, batch)
    model.rows_at_once = rows
    chunked = gradients(paradigm, model, batch)
    assert chunked[0] == pytest.approx(whole[0], rel=1e-12)
    assert chunked[1].keys() == whole[1].keys()
    for name, gradient in whole[1].items():
        torch.testing.assert_close(chunked[1][name], gradient, rtol=1e-9, atol=1e-12)


def test_chunks_hold_the_activations_of_one_chunk() -> None:
    paradigm, model = started("semb")
    batch = batch_of(paradigm)
    measured = {}
    for rows in (None, 1):
        model.rows_at_once = rows
        with keeping() as kept:
            paradigm.loss(model, batch)
        measured[rows] = kept.bytes
    assert measured[1] < measured[None] / 2


@pytest.mark.parametrize("batch_negatives", [False, True])
def test_micro_batches_that_share_negatives_give_the_gradients_of_the_whole_batch(batch_negatives: bool) -> None:
    """Windows of different lengths, so that the mean of the parts' means is not the mean."""
    histories = make_histories([[(user * 7 + step) % 40 for step in range(3 + user % 6)] for user in range(8)])
    found, sizes = {}, {}
    for accumulation in (1, 3):
        recipe = semb_recipe(accumulation=accumulation, shared_negatives=True, batch_negatives=batch_negatives)
        paradigm, model = untrained(recipe, ITEMS, TOKENIZER)
        model = model.double()
        model.parts = recipe.parts
        assert recipe.training("pretrain").accumulation == 1, "a step is one batch of the Trainer"
        examples = paradigm.examples(histories, ITEMS, PHASE, 0)
        batch = examples.collate([examples.draw(index, 0) for index in range(8)])
        with keeping(model.parameters()) as kept:
            paradigm.loss(model, batch)
        sizes[accumulation] = kept.bytes
        found[accumulation] = gradients(paradigm, model, batch)
    assert found[3][0] == pytest.approx(found[1][0], rel=1e-12)
    for name, gradient in found[1][1].items():
        torch.testing.assert_close(found[3][1][name], gradient, rtol=1e-9, atol=1e-12)
    assert sizes[3] < sizes[1] / 2


def test_micro_batches_share_negatives_from_the_recipe_on(tmp_path: Path) -> None:
    paradigm, model = started("semb")
    paradigm.save(model, tmp_path)
    weights = []
    for accumulation in (1, 4):
        recipe = semb_recipe(accumulation=accumulation, shared_negatives=True)
        paradigm, model = Semb.start(recipe, TrainingStart(tmp_path, ITEMS, "garden", 0, 0, {}))
        assert model.parts == accumulation
        training = recipe.training("pretrain").model_copy(update={"epochs": 1})
        examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
        fit(model, examples, paradigm.loss, training, tmp_path / f"{accumulation}", seed=0)
        weights.append(model.state_dict())
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)


def test_a_checkpoint_is_started_with_the_recipes_rows(tmp_path: Path) -> None:
    paradigm, model = started("semb")
    paradigm.save(model, tmp_path)
    assert Semb.load(tmp_path)[1].rows_at_once is None
    start = TrainingStart(tmp_path, ITEMS, "garden", 0, 0, {})
    assert Semb.start(semb_recipe(rows_at_once=5), start)[1].rows_at_once == 5


@pytest.mark.parametrize("largest", [1, 70, 200, 10_000])
def test_slices_give_the_cross_entropy_of_the_whole(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliced_loss, "LARGEST_LOGITS", largest)
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(13, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(31, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(31, (13,), generator=draw)
    most = []

    def logits(some: Tensor) -> Tensor:
        most.append(len(some))
        return some @ weight.T

    F.cross_entropy(states @ weight.T, labels, reduction="sum").backward()
    expected = [states.grad, weight.grad]
    states.grad = weight.grad = None
    summed_cross_entropy(states, labels, logits, 31).backward()
    for found, wanted in zip([states.grad, weight.grad], expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert max(most) * 31 <= max(largest, 31)


@pytest.mark.parametrize("name", ["text", "semid"])
def test_the_loss_in_slices_is_that_of_all_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paradigm, model = started(name)
    model = model.double()
    batch = batch_of(paradigm)
    whole = gradients(paradigm, model, batch)
    monkeypatch.setattr(sliced_loss, "LARGEST_LOGITS", 5 * len(TOKENIZER))
    sliced = gradients(paradigm, model, batch)
    assert sliced[0] == pytest.approx(whole[0], rel=1e-6), "logits are taken in float32"
    for name, gradient in whole[1].items():
        torch.testing.assert_close(sliced[1][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["text", "semid"])
def test_the_fused_loss_is_given_what_the_loss_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel itself runs on a GPU only; here torch computes what it promises (its README, and its signature)."""

    def linear_cross_entropy(
        e: Tensor, c: Tensor, targets: Tensor, softcap: Any = None, reduction: str = "mean"
    ) -> Tensor:
        assert e.dtype == c.dtype
        assert softcap is None
        return F.cross_entropy(e @ c.T, targets, reduction=reduction)

    paradigm, model = started(name)
    batch = batch_of(paradigm)
    whole = gradients(paradigm, model, batch)
    paradigm.recipe = paradigm.recipe.model_copy(update={"cross_entropy": "cut"})
    with pytest.raises(TrainingError, match=r'pip install "mmgrid\[cut-cross-entropy\]"'):
        paradigm.loss(model, batch)
    package = ModuleType("cut_cross_entropy")
    package.linear_cross_entropy = linear_cross_entropy  # type: ignore[attr-defined]
    package.__spec__ = ModuleSpec("cut_cross_entropy", None)
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", package)
    with pytest.raises(TrainingError, match='needs an NVIDIA GPU; set cross_entropy = "torch"'):
        paradigm.loss(model, batch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fused = gradients(paradigm, model, batch)
    assert fused[0] == pytest.approx(whole[0], rel=1e-5)
    for key, gradient in whole[1].items():
        torch.testing.assert_close(fused[1][key], gradient, rtol=1e-3, atol=1e-5)
    model.config.logit_scale = 2.0
    with pytest.raises(TrainingError, match="the head of this qwen3 is more than one matrix"):
        paradigm.loss(model, batch)


@pytest.mark.parametrize("name", list(RECIPES))
def test_recomputed_activations_change_no_weight(name: str, tmp_path: Path) -> None:
    models, sizes = {}, {}
    for recompute in (False, True):
        paradigm, model = started(name)
        batch = batch_of(paradigm)
        model.train()
        torch.manual_seed(0)
        with recomputed(model) if recompute else nullcontext():
            with keeping() as kept:
                paradigm.loss(model, batch)
            sizes[recompute] = kept.bytes
            torch.manual_seed(0)
            recipe = RECIPES[name].training("pretrain").model_copy(update={"epochs": 1})
            examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
            fit(model, examples, paradigm.loss, recipe, tmp_path / str(recompute), seed=0)
        models[recompute] = model
    assert same_weights(models[False], models[True])
    assert sizes[True] < 0.8 * sizes[False]


def test_a_model_that_cannot_recompute_is_refused_by_name() -> None:
    with pytest.raises(TrainingError, match=r"training\.recompute_activations: Linear does not offer it"):
        with recomputed(nn.Linear(2, 2)):
            pass
