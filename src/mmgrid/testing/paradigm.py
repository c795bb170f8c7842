"""The kit of tests that every paradigm passes.

Subclass `ParadigmKit` in a test file and define the fixture `case`, parametrised over the registry. A case makes an
untrained model over some items, and has its training recipe.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmgrid.data import Histories, Items, LeakageError, Phase
from mmgrid.evaluation import NOT_RANKED
from mmgrid.paradigms import PARADIGMS, Recipe
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.paradigms.contract import CannotTrainError, Paradigm, TrainingStart
from mmgrid.paradigms.layouts import LayoutError, export_checkpoint, import_checkpoint
from mmgrid.paradigms.recommender import ranking
from mmgrid.testing.data import PHASE, make_histories, make_items, random_histories, same_weights
from mmgrid.training.fit import TrainingReport, fit
from mmgrid.training.share import Share, collate_share

N_ITEMS, N_USERS = 40, 30
CLOSED = (3, 17, 39)


@dataclass(frozen=True)
class ParadigmCase:
    """How to make and train a model of a paradigm."""

    make: Callable[[Items], tuple[Paradigm, nn.Module]]  # the same model at every call
    recipe: Recipe
    learning_rate: float  # high enough to learn a chain of items in `epochs`
    epochs: int = 40

    @classmethod
    def of(cls, name: str, learning_rate: float, **values: Any) -> Self:
        """An installed paradigm without a base and without needs; `values` override its defaults."""
        spec = PARADIGMS[name]
        recipe = spec.resolve(values, backbone_kind="tiny")

        def make(items: Items) -> tuple[Paradigm, nn.Module]:
            return spec.load().start(recipe, TrainingStart(None, items, "kitchen", seed=0, grid_seed=0))

        return cls(make, recipe, learning_rate)


class _NoFloat64(TorchDispatchMode):
    """Within it, no tensor is made in float64. (An array of numpy may be: it never leaves the CPU.)"""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        assert not any(isinstance(one, torch.Tensor) and one.dtype == torch.float64 for one in tree_leaves(made)), func
        return made


class Interruption(Exception):
    """Raised by a test to interrupt training."""


def chain_histories(n_users: int, n_items: int, length: int) -> Histories:
    """Users who go from item i to item i + 1, from different starts, so that the next item is certain."""
    return make_histories([[(user * 7 + step) % n_items for step in range(length)] for user in range(n_users)])


class ParadigmKit:
    """Tests that hold for every paradigm; a subclass defines the fixture `case`."""

    @pytest.fixture
    def items(self) -> Items:
        return make_items(N_ITEMS)

    @pytest.fixture
    def histories(self) -> Histories:
        return random_histories(N_USERS, N_ITEMS)

    def train(
        self, case: ParadigmCase, items: Items, histories: Histories, folder: Path, **options: Any
    ) -> tuple[nn.Module, TrainingReport]:
        paradigm, model = case.make(items)
        examples = paradigm.examples(histories, items, PHASE, seed=5)
        training = options.pop("training", case.recipe.training("pretrain"))
        return model, fit(model, examples, paradigm.loss, training, folder, seed=5, **options)

    def test_an_example_depends_only_on_index_epoch_and_seed(self, case, items, histories) -> None:
        paradigm, _ = case.make(items)
        one, other = (paradigm.examples(histories, items, PHASE, seed=1) for _ in range(2))
        forward = [one.draw(index, 0) for index in range(len(one))]
        for index in reversed(range(len(other))):
            other.draw(index, 1)
        backward = [other.draw(index, 0) for index in reversed(range(len(other)))][::-1]
        first, second = one.collate(forward), other.collate(backward)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_examples_refuse_interactions_after_the_phase(self, case, items, histories) -> None:
        paradigm, _ = case.make(items)
        latest = int(histories.timestamps.max())
        with pytest.raises(LeakageError):
            paradigm.examples(histories, items, Phase("phase1", 0, latest), seed=0)

    def test_a_phase_without_targets_has_no_examples(self, case, items, histories) -> None:
        paradigm, _ = case.make(items)
        assert len(paradigm.examples(histories, items, Phase("phase2", 500, 600), seed=0)) == 0

    def test_the_loss_does_not_depend_on_the_order_of_the_batch(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        model.eval()
        examples = paradigm.examples(histories, items, PHASE, seed=0)
        drawn = [examples.draw(index, 0) for index in range(6)]
        loss = paradigm.loss(model, examples.collate(drawn))
        assert loss.shape == ()
        turned = paradigm.loss(model, examples.collate(drawn[::-1]))
        torch.testing.assert_close(turned, loss, rtol=1e-5, atol=1e-5)

    def test_shares_of_a_batch_make_up_its_loss(self, case, items, histories) -> None:
        """As several processes compute it; one of three has no example."""
        paradigm, model = case.make(items)
        model.eval()
        examples = paradigm.examples(histories, items, PHASE, seed=0)
        if hasattr(examples, "collate_share"):
            pytest.skip("its processes exchange what they compute")
        drawn = [examples.draw(index, 0) for index in range(2)]
        shares = [collate_share(examples, drawn, Share(index, 3)) for index in range(3)]
        loss = sum(weight * paradigm.loss(model, batch) for batch, weight in shares) / 3
        torch.testing.assert_close(loss, paradigm.loss(model, examples.collate(drawn)), rtol=1e-5, atol=1e-5)

    def test_predictions_are_what_the_loss_averages(self, case, items, histories) -> None:
        """With few items before, too; a paradigm without `predictions` cannot be merged with learned weights."""
        paradigm, model = case.make(items)
        model.eval()
        short = make_histories([histories.of(user)[:2].tolist() for user in range(N_USERS)])
        examples = paradigm.next_items(short, items, Phase("phase2", 1, PHASE.end), batch_size=N_USERS, seed=0)
        assert len(examples) == N_USERS, "one question for each user, whatever there is before"
        batch = examples.collate([examples.draw(index, 0) for index in range(N_USERS)])
        try:
            found = paradigm.predictions(model, batch)
        except CannotTrainError:
            return
        losses = [F.cross_entropy(one.logits, one.labels, reduction="none") for one in found]
        torch.testing.assert_close(torch.cat(losses).mean(), paradigm.loss(model, batch), rtol=1e-5, atol=1e-5)

    def test_every_weight_is_trained(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        model.train()
        examples = paradigm.examples(histories, items, PHASE, seed=0)
        paradigm.loss(model, examples.collate([examples.draw(index, 0) for index in range(len(examples))])).backward()
        still = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert still == []

    def test_learns_to_predict_the_next_item(self, case, items, tmp_path) -> None:
        histories = chain_histories(N_USERS, N_ITEMS, 9)
        known, targets = histories, np.array([(user * 7 + 9) % N_ITEMS for user in range(N_USERS)])
        paradigm, untrained = case.make(items)
        before = paradigm.rank(untrained, known, items, targets)
        training = case.recipe.training("pretrain").model_copy(
            update={"epochs": case.epochs, "learning_rate": case.learning_rate}
        )
        model, report = self.train(case, items, histories, tmp_path, training=training)
        after = paradigm.rank(model, known, items, targets)
        assert report.losses[-1][2] < 0.8 * report.losses[0][2]
        assert after.mean() < before.mean() / 3, (after.mean(), before.mean())

    def test_a_resumed_training_gives_the_same_bits(self, case, items, histories, tmp_path) -> None:
        straight, whole = self.train(case, items, histories, tmp_path / "straight")

        def kill(step: int, steps: int, loss: float | None) -> None:
            if step == whole.steps // 2:
                raise Interruption

        with pytest.raises(Interruption):
            self.train(case, items, histories, tmp_path / "killed", progress=kill, save_seconds=0)
        seen: list[int] = []
        resumed, report = self.train(
            case, items, histories, tmp_path / "killed", progress=lambda step, *_: seen.append(step), save_seconds=0
        )
        assert seen[0] == whole.steps // 2, "training resumed at the last checkpoint, not at the start"
        assert same_weights(straight, resumed)
        assert report == whole, "the loss curve is the same, too"

    def test_bf16_trains_and_saves_float32(self, case, items, histories, tmp_path) -> None:
        plain = case.recipe.training("phase1").model_copy(update={"epochs": 1})
        rounded = plain.model_copy(update={"precision": "bf16"})
        exact, curve = self.train(case, items, histories, tmp_path / "float32", training=plain)
        model, report = self.train(case, items, histories, tmp_path / "bf16", training=rounded)
        assert not same_weights(exact, model), "not computed in bfloat16: `loss` must call the model itself"
        assert [point[2] for point in report.losses] == pytest.approx([point[2] for point in curve.losses], rel=0.05)
        paradigm, _ = case.make(items)
        (tmp_path / "saved").mkdir()
        paradigm.save(model, tmp_path / "saved")
        stored = [load_file(file) for file in (tmp_path / "saved").glob("model*.safetensors")]
        assert {tensor.dtype for weights in stored for tensor in weights.values()} == {torch.float32}

    def test_computes_without_float64_which_mps_lacks(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        examples = paradigm.examples(histories, items, PHASE, seed=0)
        with _NoFloat64():
            model.train()
            paradigm.loss(model, examples.collate([examples.draw(index, 0) for index in range(4)])).backward()
            model.eval()
            paradigm.rank(model, histories, items, np.zeros(N_USERS, np.int64))

    def test_a_rank_is_the_position_in_the_full_list(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        best, _ = paradigm.recommend(model, histories, items, N_ITEMS)
        for place in (0, 5, N_ITEMS - histories.lengths.max() - 1):
            targets = best[:, place]
            assert (paradigm.rank(model, histories, items, targets) == place).all()

    def test_it_ranks_in_the_evaluation_precision_of_its_recipe(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        seen: list[Any] = []
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        for layer in layers:
            layer.register_forward_hook(lambda _, inputs, output: seen.append(output))
        for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            paradigm.recipe = case.recipe.model_copy(update={"evaluation_precision": precision})
            seen.clear()
            with ranking(paradigm, model):
                _, scores = paradigm.recommend(model, histories, items, 5)
            assert {output.dtype for output in seen} <= {dtype}
            assert np.isfinite(scores).all()
            assert scores.dtype == np.float32

    def test_recommends_only_candidates_outside_the_history(self, case, items, histories) -> None:
        items = items.with_candidates(np.setdiff1d(np.arange(N_ITEMS), CLOSED))
        paradigm, model = case.make(items)
        best, scores = paradigm.recommend(model, histories, items, N_ITEMS)
        assert best.dtype == np.int64
        assert scores.dtype == np.float32
        assert best.shape == scores.shape == (N_USERS, N_ITEMS)
        for user in range(N_USERS):
            allowed = np.setdiff1d(items.candidates, histories.of(user))
            assert sorted(best[user][: len(allowed)]) == allowed.tolist(), "each candidate occurs once"
            assert (best[user][len(allowed) :] == -1).all()
            assert (np.diff(scores[user][: len(allowed)]) <= 0).all()
            assert np.isneginf(scores[user][len(allowed) :]).all()
        closed = np.full(N_USERS, CLOSED[0])
        assert (paradigm.rank(model, histories, items, closed) == NOT_RANKED).all()
        own = np.array([histories.of(user)[0] for user in range(N_USERS)])
        assert (paradigm.rank(model, histories, items, own) == NOT_RANKED).all()

    def test_a_short_list_is_the_beginning_of_a_long_one(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        short, long = (paradigm.recommend(model, histories, items, k) for k in (7, N_ITEMS))
        assert (short[0] == long[0][:, :7]).all()
        assert (short[1] == long[1][:, :7]).all()

    def test_a_users_recommendations_do_not_depend_on_the_batch(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        best, scores = paradigm.recommend(model, histories, items, 10)
        order = np.random.default_rng(0).permutation(N_USERS)[:11]
        again, others = paradigm.recommend(model, histories.take(order), items, 10)
        assert (again == best[order]).all()
        np.testing.assert_allclose(others, scores[order], rtol=1e-4, atol=1e-5)
        alone, _ = paradigm.recommend(model, histories.take([4]), items, 10)
        assert (alone[0] == best[4]).all()

    def test_later_interactions_of_one_user_do_not_affect_others(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        best, _ = paradigm.recommend(model, histories, items, 10)
        longer = make_histories([*(histories.of(user).tolist() for user in range(N_USERS - 1)), list(range(30))])
        again, _ = paradigm.recommend(model, longer, items, 10)
        assert (again[:-1] == best[:-1]).all()

    def test_only_the_newest_interactions_are_read(self, case, items) -> None:
        length = case.recipe.history_length
        recent = list(range(length))
        paradigm, model = case.make(items)
        short, long = make_histories([recent]), make_histories([[N_ITEMS - 1, N_ITEMS - 2, *recent]])
        best, scores = paradigm.recommend(model, short, items, N_ITEMS)
        again, others = paradigm.recommend(model, long, items, N_ITEMS)
        kept = ~np.isin(best[0], [N_ITEMS - 1, N_ITEMS - 2])
        assert (again[0, : N_ITEMS - length - 2] == best[0, kept][: N_ITEMS - length - 2]).all()
        assert np.isin(again[0], [N_ITEMS - 1, N_ITEMS - 2]).sum() == 0, "items of the whole history are excluded"
        np.testing.assert_allclose(others[0, 0], scores[0, kept][0], rtol=1e-5)

    def test_recommending_is_deterministic_and_does_not_change_the_model(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        _, untouched = case.make(items)
        model.train()
        first, second = (paradigm.recommend(model, histories, items, 10) for _ in range(2))
        assert (first[1] == second[1]).all()
        assert same_weights(model, untouched)

    def test_a_saved_model_recommends_the_same(self, case, items, histories, tmp_path) -> None:
        paradigm, model = case.make(items)
        paradigm.save(model, tmp_path)
        opened, loaded = load_checkpoint(
            tmp_path, values={name: getattr(case.recipe, name) for name in case.recipe.EVALUATION}
        )
        assert opened.name == paradigm.name
        assert same_weights(model, loaded)
        assert all(weight.dtype == torch.float32 for weight in loaded.parameters())
        expected, found = (
            one.recommend(two, histories, items, 10) for one, two in ((paradigm, model), (opened, loaded))
        )
        assert (expected[0] == found[0]).all()
        assert (expected[1] == found[1]).all()

    def test_a_saved_model_is_json_and_safetensors(self, case, items, tmp_path) -> None:
        paradigm, model = case.make(items)
        paradigm.save(model, tmp_path)
        assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja", ".txt"}
        config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
        declared = config.get("mmgrid", {}).get("paradigm")
        assert declared == paradigm.name or config["model_type"] == PARADIGMS[paradigm.name].model_type

    def test_a_layout_of_another_project_gives_the_model_back(self, case, items, histories, tmp_path) -> None:
        """Each declared layout writes a saved model, or says why not; what it wrote recommends the same."""
        paradigm, model = case.make(items)
        (tmp_path / "saved").mkdir()
        paradigm.save(model, tmp_path / "saved")
        for layout in PARADIGMS[paradigm.name].layouts:
            theirs, ours = tmp_path / layout.name, tmp_path / f"{layout.name}-imported"
            try:
                export_checkpoint(tmp_path / "saved", theirs, layout.name)
            except LayoutError:
                assert not theirs.exists(), "nothing is left of a layout that cannot express the model"
                continue
            opened, loaded = load_checkpoint(import_checkpoint(theirs, ours, layout.name))
            assert same_weights(model, loaded)
            expected, found = (
                one.recommend(two, histories, items, 10) for one, two in ((paradigm, model), (opened, loaded))
            )
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-4)

    def test_no_users_is_allowed_and_an_empty_history_is_an_error(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        nobody = histories.take(np.arange(0))
        best, scores = paradigm.recommend(model, nobody, items, 5)
        assert best.shape == scores.shape == (0, 5)
        assert paradigm.rank(model, nobody, items, np.empty(0, np.int64)).shape == (0,)
        with pytest.raises(ValueError, match="1 users have no history, the first at position 1"):
            paradigm.recommend(model, make_histories([[1, 2], []]), items, 5)

    def test_weights_that_are_not_finite_are_refused(self, case, items, histories) -> None:
        paradigm, model = case.make(items)
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        with pytest.raises(ValueError, match="NaN"):
            paradigm.recommend(model, histories, items, 5)
