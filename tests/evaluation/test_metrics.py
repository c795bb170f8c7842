import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from kits.ranks import ranks_by_sorting
from mmgrid.evaluation import (
    DEFAULT_METRICS,
    METRICS,
    NOT_RANKED,
    group_masks,
    parse_metric,
    per_user,
)

ranks_and_cutoffs = st.tuples(st.integers(NOT_RANKED, 200), st.integers(1, 60))


def test_metrics_equal_trec_eval_on_random_rankings():
    draw = np.random.default_rng(5)
    users, items = 60, 80
    scores = draw.permuted(np.tile(np.arange(items, dtype=np.float32), (users, 1)), axis=1)
    targets = draw.integers(items, size=users)
    judged = {str(u): {str(targets[u]): 1} for u in range(users)}
    run = {str(u): {str(i): float(scores[u, i]) for i in range(items)} for u in range(users)}
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"recall.5,10,20", "ndcg_cut.5,10,20", "recip_rank"})
    names = [
        "recall_5",
        "recall_10",
        "recall_20",
        "ndcg_cut_5",
        "ndcg_cut_10",
        "ndcg_cut_20",
        "recip_rank",
    ]
    table = theirs.evaluate(run)
    expected = [[table[str(u)][name] for name in names] for u in range(users)]
    np.testing.assert_allclose(per_user(ranks_by_sorting(scores, targets)), expected, atol=1e-12)


def test_values_by_hand():
    ranks = np.array([0, 1, 9, 10, NOT_RANKED])
    assert parse_metric("recall@10")(ranks).tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_allclose(parse_metric("ndcg@10")(ranks), [1, 1 / np.log2(3), 1 / np.log2(11), 0, 0])
    np.testing.assert_allclose(parse_metric("mrr@2")(ranks), [1, 0.5, 0, 0, 0])
    np.testing.assert_allclose(parse_metric("mrr")(ranks), [1, 0.5, 0.1, 1 / 11, 0])


@given(ranks_and_cutoffs, st.sampled_from(sorted(METRICS)))
def test_metrics_are_bounded_and_monotone_in_rank_and_cutoff(rank_and_k, family):
    rank, k = rank_and_k
    value = METRICS[family](np.array([rank]), k)[0]
    assert 0.0 <= value <= 1.0
    assert METRICS[family](np.array([rank]), k + 1)[0] >= value
    if rank >= 0:
        assert METRICS[family](np.array([rank + 1]), k)[0] <= value
    else:
        assert value == 0.0


@given(st.lists(st.integers(NOT_RANKED, 50), min_size=1, max_size=20))
def test_recall_is_never_below_ndcg_nor_ndcg_below_mrr(ranks):
    recall, ndcg, mrr = per_user(np.array(ranks), ["recall@10", "ndcg@10", "mrr@10"]).T
    assert (recall >= ndcg).all()
    assert (ndcg >= mrr).all()


def test_names_survive_parsing():
    assert [parse_metric(name).name for name in DEFAULT_METRICS] == list(DEFAULT_METRICS)
    assert per_user(np.array([3]), []).shape == (1, 0)


@pytest.mark.parametrize("name", ["recall", "ndcg", "hits@10", "recall@0", "recall@-1", "recall@1.5", "NDCG@5", ""])
def test_a_wrong_name_is_refused(name):
    with pytest.raises(ValueError, match="metric"):
        parse_metric(name)


def test_invalid_ranks_are_refused():
    with pytest.raises(ValueError, match="-2 is not a rank"):
        parse_metric("mrr")(np.array([0, -2]))
    with pytest.raises(ValueError, match="whole numbers"):
        parse_metric("mrr")(np.array([0.5]))  # type: ignore[arg-type]


def test_groups_are_a_partition():
    masks = group_masks(np.array([True, False, True]))
    assert list(masks) == ["all", "active", "non_active"]
    assert (masks["active"] ^ masks["non_active"]).all()
    assert masks["all"].all()
    with pytest.raises(ValueError, match="expected bool"):
        group_masks(np.array([1, 0]))  # type: ignore[arg-type]
