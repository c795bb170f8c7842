"""SASRec: causality, padding, the softmax over candidates, and a planted chain that it learns."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kits.small import sasrec_recipe
from mmgrid.evaluation import popularity_ranks
from mmgrid.paradigms.sasrec.model import SasrecModel
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.testing.data import PHASE, make_histories, make_items, random_histories, same_weights
from mmgrid.training.fit import fit

ITEMS = make_items(40)


@pytest.fixture
def model() -> SasrecModel:
    """With weights large enough that a difference anywhere shows."""
    made = Sasrec.create(sasrec_recipe(), ITEMS, seed=0).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(3)
    return made


@torch.no_grad()
def test_a_later_item_never_changes_an_earlier_state(model: SasrecModel) -> None:
    history = torch.tensor([[3, 1, 4, 15, 9, 2]])
    before = model.encode_users(history)
    for place in range(6):
        changed = history.clone()
        changed[0, place] = 30
        after = model.encode_users(changed)
        torch.testing.assert_close(after[:, :place], before[:, :place])
        assert (after[0, place:] - before[0, place:]).abs().amax(1).min() > 1e-3, "and every later state changes"


@torch.no_grad()
def test_padding_changes_nothing(model: SasrecModel) -> None:
    short = torch.tensor([[5, 6, 7]])
    padded = torch.tensor([[5, 6, 7, 0, 0, 0]])
    torch.testing.assert_close(model.encode_users(padded)[:, :3], model.encode_users(short))


def _batch(closed: list[int]) -> tuple[Tensor, dict[str, Tensor], list[tuple[np.ndarray, int]]]:
    items = ITEMS.with_candidates(np.setdiff1d(np.arange(40), closed))
    histories = random_histories(20, 40)
    examples = Sasrec(6).examples(histories, items, PHASE, seed=0)
    drawn = [examples.draw(index, 0) for index in range(len(examples))]
    kept = [(sequence, context) for sequence, context in drawn if not np.isin(sequence[context:], closed).any()]
    return torch.tensor(closed), examples.collate(kept), kept


@torch.no_grad()
def test_the_loss_is_the_cross_entropy_over_candidates(model: SasrecModel) -> None:
    closed, batch, drawn = _batch([0, 17, 33])
    losses = []
    for sequence, context in drawn:
        states = model.encode_users(torch.as_tensor(sequence[:-1], dtype=torch.long)[None])[0].double()
        for place in range(context, len(sequence)):
            scores = model.items.weight.double() @ states[place - 1]
            scores[closed] = -torch.inf
            losses.append(-(scores - scores.logsumexp(0))[sequence[place]])
    assert len(losses) > 20
    assert model(**batch).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_a_closed_item_gets_no_gradient_as_an_answer(model: SasrecModel) -> None:
    closed, batch, drawn = _batch([0, 17, 33])
    seen = np.unique(np.concatenate([sequence[:-1] for sequence, _ in drawn]))
    model(**batch).backward()
    gradient = model.items.weight.grad
    assert gradient is not None
    for item in closed.tolist():
        assert bool(gradient[item].any()) == (item in seen), "it is trained as an input, never as a score"
    assert gradient[np.setdiff1d(np.arange(40), [*seen, 0, 17, 33])].any(1).all()


def test_learns_a_planted_chain_far_better_than_popularity(tmp_path) -> None:
    """Users walk i → 3i + 1 (mod 40) with one step in five at random; popularity cannot predict it."""
    rng = np.random.default_rng(0)

    def walk(start: int, length: int) -> list[int]:
        items = [start]
        while len(items) < length:
            follower = (3 * items[-1] + 1) % 40
            items.append(follower if rng.random() < 0.8 else int(rng.zipf(1.5)) % 40)
        return items

    histories = make_histories([walk(int(rng.integers(40)), 8) for _ in range(150)])
    # Test histories end where the next item of the chain is new to the user.
    tested = [row for row in (walk(int(rng.integers(40)), 6) for _ in range(120)) if (3 * row[-1] + 1) % 40 not in row]
    evaluated, targets = make_histories(tested), np.array([(3 * row[-1] + 1) % 40 for row in tested])
    recipe = sasrec_recipe(epochs={"pretrain": 15, "phase1": 1, "phase2": 1}, batch_size=32)
    recipe = recipe.model_copy(update={"learning_rate": recipe.learning_rate.model_copy(update={"pretrain": 5e-3})})
    paradigm = Sasrec(recipe.history_length)
    trained = []
    for run in range(2):
        model = Sasrec.create(recipe, ITEMS, seed=0)
        examples = paradigm.examples(histories, ITEMS, PHASE, seed=0)
        fit(model, examples, paradigm.loss, recipe.training("pretrain"), tmp_path / str(run), seed=0)
        trained.append(model)
    assert same_weights(*trained), "twice the same, bit for bit"
    ranks = paradigm.rank(trained[0], evaluated, ITEMS, targets)
    counts = np.bincount(histories.items, minlength=40)
    popular = popularity_ranks(counts, targets, evaluated.offsets, evaluated.items, ITEMS.is_candidate())
    assert (ranks == 0).mean() > 0.8
    assert ranks.mean() < popular.mean() / 5


def test_another_domain_is_refused(model: SasrecModel) -> None:
    with pytest.raises(ValueError, match="has 40 items, but the domain has 41; use the prepared"):
        Sasrec(6).recommend(model, make_histories([[1, 2]]), make_items(41), 5)
