"""`pooled`: a language model as a recommender, without training."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kits.small import make_backbone, make_tokenizer
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.paradigms.contract import CannotTrainError
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.pooled.paradigm import HISTORY_LENGTH, Pooled
from mmgrid.testing.data import PHASE, make_histories, make_items, random_histories, same_weights

ITEMS = make_items(60)


@pytest.fixture(scope="module")
def pooled() -> Pooled:
    return Pooled(make_tokenizer(ITEMS))


@pytest.fixture(scope="module")
def model(pooled: Pooled):
    return make_backbone(pooled.tokenizer)


def test_an_items_vector_is_that_of_its_text_minus_the_candidates_mean(pooled: Pooled, model) -> None:
    some = ITEMS.with_candidates(np.arange(0, 60, 2))
    vectors = pooled.item_vectors(model, some)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(60))
    everything = pooled.item_vectors(model, ITEMS)
    assert not torch.allclose(vectors, everything)  # another mean is subtracted
    one = pooled.item_vectors(model, ITEMS)[7] @ pooled.item_vectors(model, ITEMS).T
    assert one.argmax() == 7


def test_a_user_is_the_mean_of_the_newest_items(pooled: Pooled) -> None:
    vectors = F.normalize(torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    histories = make_histories([[3], [1, 2, 5], list(range(40))])
    found = pooled.user_vectors(vectors, histories)
    wanted = [vectors[[3]], vectors[[1, 2, 5]], vectors[40 - HISTORY_LENGTH : 40]]
    torch.testing.assert_close(found, torch.stack([F.normalize(rows.mean(0), dim=0) for rows in wanted]))


def test_adding_vectors_part_by_part_changes_no_byte(pooled: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    histories = random_histories(12, 60)
    whole = pooled.user_vectors(vectors, histories)
    for gathered in (1, 24, 100):
        monkeypatch.setattr("mmgrid.paradigms.pooled.paradigm.GATHERED", gathered)
        assert torch.equal(pooled.user_vectors(vectors, histories), whole)


def test_ranks_and_lists_agree_and_leave_the_history_out(pooled: Pooled, model) -> None:
    histories = random_histories(12, 60)
    best, scores = pooled.recommend(model, histories, ITEMS, 60)
    assert (np.diff(scores[np.isfinite(scores).all(1)], axis=1) <= 0).all()
    for user in range(12):
        seen = set(histories.items[histories.offsets[user] : histories.offsets[user + 1]].tolist())
        listed = [row for row in best[user].tolist() if row >= 0]
        assert set(listed) == set(range(60)) - seen
        for place in (0, 5, len(listed) - 1):
            targets = np.full(12, listed[place])
            assert pooled.rank(model, histories, ITEMS, targets)[user] == place


def test_an_item_similar_to_the_history_ranks_high(pooled: Pooled, model) -> None:
    """Items 0 and 42 share colour and thing, so the other one ranks high for a user of one."""
    ranks = pooled.rank(model, make_histories([[0], [10]]), ITEMS, np.array([42, 52]))
    assert (ranks < 10).all()


def test_a_saved_model_ranks_the_same(pooled: Pooled, model, tmp_path: Path) -> None:
    pooled.save(model, tmp_path)
    paradigm, again = load_checkpoint(tmp_path, "pooled")
    assert paradigm.name == "pooled"
    assert same_weights(model, again)
    histories, targets = random_histories(9, 60), np.arange(9)
    np.testing.assert_array_equal(
        paradigm.rank(again, histories, ITEMS, targets), pooled.rank(model, histories, ITEMS, targets)
    )
    with pytest.raises(CheckpointError, match="a 'qwen3' is no recommender"):
        load_checkpoint(tmp_path)


def test_there_is_nothing_to_train(pooled: Pooled, model) -> None:
    with pytest.raises(CannotTrainError, match="nothing to train"):
        pooled.examples(random_histories(3, 60), ITEMS, PHASE, 0)
    with pytest.raises(CannotTrainError, match="nothing to train"):
        pooled.loss(model, {})


def test_a_user_without_a_history_is_refused(pooled: Pooled, model) -> None:
    with pytest.raises(ValueError, match="1 users have no history"):
        pooled.rank(model, make_histories([[1], []]), ITEMS, np.array([2, 2]))
