"""The options of `compat = "official"`: each has its effect, and none is a default."""

import inspect
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from test_grounding import _generated, _grounding

from kits.small import make_backbone, make_tokenizer, semb_recipe, semid_recipe, text_recipe
from mmgrid.data import Phase
from mmgrid.evaluation import NOT_RANKED
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.paradigms.shared.windows import windows
from mmgrid.paradigms.text.engines.contract import Prompt
from mmgrid.paradigms.text.grounding import DAY_MS, popularity_factor
from mmgrid.paradigms.text.paradigm import Text
from mmgrid.semantic_ids.item_codes import ItemCodes
from mmgrid.testing.data import PHASE, make_histories, make_items, random_histories
from mmgrid.training.schedule import EpochSequence

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)


TRAINING = ("weight_decay", "gradient_clipping", "precision", "order")


@pytest.mark.parametrize("paradigm", ["text", "semid", "semb", "sasrec"])
def test_the_options_are_no_defaults(paradigm: str) -> None:
    ours, official = (
        PARADIGMS[paradigm].resolve({}, backbone_kind="pretrained", history_length=length, compat=compat).model_dump()
        for length, compat in ((25, None), (None, "official"))
    )
    changed = {name for name, value in ours.items() if official[name] != value}
    assert (
        changed
        == {
            "text": {*TRAINING, "history_length", "popularity_gamma", "without_popularity", "masked"},
            "semid": {*TRAINING, "divisor", "history_length", "renormalise", "hits", "masked"},
            "semb": {"gradient_clipping", "prompt_counts", "targets"},
            "sasrec": set(),
        }[paradigm]
    )


def test_a_given_value_overrides_the_official_one() -> None:
    recipe = PARADIGMS["semid"].resolve({"hits": "item"}, backbone_kind="tiny", history_length=12, compat="official")
    assert (recipe.history_length, recipe.hits, recipe.renormalise) == (12, "item", "children")


def test_targets_can_be_the_whole_histories_of_users_active_in_the_phase() -> None:
    histories = make_histories([[1, 2, 3, 4], [5, 6, 7]], [[0, 10, 20, 30], [0, 10, 11]])
    phase = Phase("phase1", 20, PHASE.end)
    of_phase, whole = (windows(histories, phase, 6, targets) for targets in ("phase", "history"))
    assert [of_phase.sequence(window).tolist() for window in range(len(of_phase))] == [[1, 2, 3, 4]]
    assert [whole.sequence(window).tolist() for window in range(len(whole))] == [[1, 2, 3, 4]]
    assert (of_phase.n_context(0), whole.n_context(0)) == (2, 1)


def test_semb_learns_whole_histories_if_its_recipe_says_so() -> None:
    histories = make_histories([[1, 2, 3, 4], [5, 6, 7]], [[0, 10, 20, 30], [0, 10, 11]])
    phase, backbone = Phase("phase1", 20, PHASE.end), make_backbone(TOKENIZER)
    first = {}
    for targets in ("phase", "history"):
        paradigm, _ = Semb.create(semb_recipe(targets=targets), backbone, TOKENIZER, seed=0)
        first[targets] = paradigm.examples(histories, ITEMS, phase, 0).windows.n_context(0)
    assert first == {"phase": 2, "history": 1}


def test_longer_histories_are_read() -> None:
    histories = make_histories([list(range(40)), list(range(12))])
    prompts: dict[int, list[list[int]]] = {25: [], 30: []}
    scores = {}
    for length, received in prompts.items():
        text, model = Text.create(text_recipe(history_length=length), make_backbone(TOKENIZER, head=True), TOKENIZER)
        text.generator = _RecordingGenerator(received)
        text.titles(model, histories, ITEMS)
        semid, model = _semid(history_length=length, masked="nothing")
        scores[length] = semid.recommend(model, histories, ITEMS, 40)[1]
    assert len(prompts[25][0]) < len(prompts[30][0]), "a history of 40 items"
    assert prompts[25][1] == prompts[30][1], "of 12"
    assert not np.allclose(scores[25][0], scores[30][0], atol=1e-4)
    np.testing.assert_allclose(scores[25][1], scores[30][1], atol=1e-4)


class _RecordingGenerator:
    """Records its prompts and generates empty titles."""

    def __init__(self, prompts: list[list[int]]) -> None:
        self.prompts = prompts

    def titles(self, prompts: Sequence[Prompt], n: int) -> list[list[str]]:
        self.prompts += [list(prompt) for prompt in prompts]
        return [[""] * n for _ in prompts]


def test_renormalising_over_allowed_children_changes_ranks() -> None:
    histories, ranks = random_histories(15, 40), {}
    for way in ("children", "level"):
        paradigm, model = _semid(renormalise=way)
        ranks[way] = paradigm.rank(model, histories, ITEMS, np.full(15, 7))
    assert not (ranks["children"] == ranks["level"]).all()


def test_items_without_interactions_can_be_left_out() -> None:
    histories, titles = random_histories(12, 40), _generated(12, ITEMS)
    taken = np.arange(30)
    ages = np.full(30, 60 * DAY_MS)
    factors = [
        popularity_factor(ages, taken, 40, 61 * DAY_MS, half_life_days=30, gamma=0.25, without=without)
        for without in (1.0, 0.0)
    ]
    assert (factors[0][taken] == factors[1][taken]).all()
    grounding, targets = _grounding(ITEMS), np.full(12, 35)
    kept, left_out = (grounding.ranks(titles, histories, ITEMS, targets, factor) for factor in factors)
    fresh = np.array([35 not in histories.of(user) for user in range(12)])
    assert fresh.any()
    assert (kept[fresh] < 40).all()
    assert (left_out == NOT_RANKED).all()
    best, _ = grounding.top(titles, histories, ITEMS, 40, factors[1])
    assert best.max() < 30


def test_an_item_with_factor_0_is_left_out_even_if_its_title_was_generated() -> None:
    factor = np.ones(40, np.float32)
    factor[7] = 0
    ranks = _grounding(ITEMS).ranks(
        [[ITEMS.titles[7]]], make_histories([[1, 2]]), ITEMS, np.array([7]), factor
    )  # 0 / 0 must not become a rank
    assert ranks[0] == NOT_RANKED


def test_text_can_leave_out_another_users_history() -> None:
    recipe = text_recipe(masked="others")
    paradigm, model = Text.create(recipe, make_backbone(TOKENIZER, head=True), TOKENIZER)
    paradigm.grounding = _grounding(ITEMS)
    mine, others = make_histories([[1, 2, 3], [4, 5, 6]]), make_histories([[10, 11], [12, 13]])
    with pytest.raises(ValueError, match="set `others`"):
        paradigm.rank(model, mine, ITEMS, np.array([10, 20]))
    paradigm.others = others
    assert (paradigm.rank(model, mine, ITEMS, np.array([10, 2])) == NOT_RANKED).tolist() == [True, False]
    paradigm.recipe = text_recipe()
    assert (paradigm.rank(model, mine, ITEMS, np.array([10, 5])) == NOT_RANKED).tolist() == [False, True]


def test_hits_by_code_need_unmasked_lists() -> None:
    with pytest.raises(ValueError, match='set masked = "nothing"'):
        semid_recipe(hits="code")


def _semid(**values) -> tuple[Semid, object]:
    codes = np.stack([np.arange(40) % 5, np.arange(40) % 4], axis=1)  # two items share each of 20 codes
    return Semid.create(
        semid_recipe(**values),
        make_backbone(TOKENIZER, head=True),
        TOKENIZER,
        ItemCodes(codes.astype(np.int32), 8),
        "kitchen/12345678",
        seed=0,
    )


def test_any_item_of_a_code_is_a_hit() -> None:
    histories = random_histories(15, 40)
    ranks = {}
    for hits in ("item", "code"):
        paradigm, model = _semid(hits=hits, masked="nothing")
        ranks[hits] = [paradigm.rank(model, histories, ITEMS, np.full(15, target)) for target in (3, 23)]
    assert (ranks["code"][0] == ranks["code"][1]).all()  # 3 and 23 have the same code
    assert max(rank.max() for rank in ranks["code"]) < 20  # places of codes, of which there are 20
    assert not (ranks["item"][0] == ranks["item"][1]).any()
    for by_item in ranks["item"]:  # two items per code
        assert (by_item // 2 == ranks["code"][0]).all()


def test_semid_can_keep_the_history_in_the_list() -> None:
    histories = make_histories([[3, 8, 9]])
    ranks = {}
    for masked in ("own", "nothing"):
        paradigm, model = _semid(masked=masked)
        ranks[masked] = paradigm.rank(model, histories, ITEMS, np.array([8]))[0]
    assert ranks["own"] == NOT_RANKED
    assert ranks["nothing"] < 40


def test_the_official_numbers_of_training_reach_the_optimizer() -> None:
    """config/title.yml of the official code: torch.optim.AdamW's own decay, no clipping, weights in bf16, no shuffling."""
    official = PARADIGMS["text"].resolve({}, backbone_kind="tiny", compat="official").training("phase1")
    assert (official.weight_decay, official.max_grad_norm) == (0.01, 0)
    assert (official.precision, official.order) == ("bf16-weights", "time")
    assert official.weight_decay == inspect.signature(torch.optim.AdamW).parameters["weight_decay"].default


def test_examples_come_by_time_with_item_dialogues_first() -> None:
    histories = make_histories([[1, 2, 3, 4], [5, 6, 7]], [[0, 40, 20, 50], [5, 30, 60]])
    paradigm, _ = _semid()
    examples = paradigm.examples(histories, ITEMS, Phase("pretrain", 10, PHASE.end), seed=0)
    order = [int(EpochSequence(examples, 1, 0, order="time")._order(0)[place]) for place in range(len(examples))]
    dialogues, times = examples.item_dialogues, examples.times[order]
    assert dialogues > 0
    assert min(order[:dialogues]) >= len(examples) - dialogues
    assert sorted(times[dialogues:].tolist()) == times[dialogues:].tolist()
    assert set(times[dialogues:].tolist()) == {20, 30, 40, 50, 60}


def test_the_divisor_of_semids_loss() -> None:
    """By the official code's: the weighted sum over the number of answer tokens."""
    (ours, model), (official, same) = _semid(), _semid(divisor="tokens")
    examples = ours.examples(random_histories(6, 40), ITEMS, PHASE, seed=0)
    batch = examples.collate([examples.draw(index, 0) for index in range(len(examples))])
    code = batch["labels"] >= ours.tokens.first
    share = float((~code).float().mean() + 10 * code.float().mean())
    assert 1.5 < share < 10
    assert official.loss(same, batch).item() == pytest.approx(share * ours.loss(model, batch).item(), rel=1e-5)


def test_the_prompt_of_semb_beside_or_within_the_tokens_of_a_text(tmp_path) -> None:
    backbone = make_backbone(TOKENIZER)
    tables = {}
    for counts in (False, True):
        recipe = semb_recipe(prompt="Compress", text_tokens=14, title_tokens=14, prompt_counts=counts)
        paradigm, model = Semb.create(recipe, backbone, TOKENIZER, seed=0)
        (tmp_path / str(counts)).mkdir()
        paradigm.save(model, tmp_path / str(counts))
        again, _ = Semb.load(tmp_path / str(counts))
        tables[counts] = again.tokens(ITEMS)
    prompt = len(tables[True].prompt)
    whole = [table.lengths(np.arange(40)) + (prompt if counts else 0) for counts, table in tables.items()]
    assert [lengths.max() for lengths in whole] == [14, 14]
    assert "prompt_counts" not in (tmp_path / "False" / "config.json").read_text()
    recipe = semb_recipe(text_tokens=3, prompt_counts=True)
    with pytest.raises(ValueError, match=r"text_tokens 3: the prompt has \d+ tokens, .* raise text_tokens"):
        Semb.create(recipe, backbone, TOKENIZER, seed=0)[0].tokens(ITEMS)


def test_a_base_that_counts_its_prompt_is_another_base() -> None:
    ours, official = (semb_recipe(prompt_counts=counts) for counts in (False, True))
    assert PARADIGMS["semb"].base_values(official) == {**PARADIGMS["semb"].base_values(ours), "prompt_counts": True}
