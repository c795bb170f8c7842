"""`grids/paper.toml` has the numbers of the paper."""

from pathlib import Path

import pytest

from mmgrid.data import PAPER_CALENDAR
from mmgrid.grid.file.load import load_grid
from mmgrid.grid.file.spec import PretrainedBackbone
from mmgrid.paradigms import PARADIGMS
from mmgrid.semantic_ids.recipes import RqVaeRecipe

SPEC = load_grid(Path(__file__).parents[2] / "grids/paper.toml").spec
TABLE_1 = {  # users, pretrain, P1, P2, test
    "Video_Games": (4876, 215761, 9365, 14708, 12228),
    "Movies_and_TV": (5289, 617122, 17732, 14804, 14669),
    "Cell_Phones_and_Accessories": (39262, 1211712, 63152, 97097, 100437),
    "Sports_and_Outdoors": (34571, 1468421, 87015, 113283, 102969),
    "Books": (38418, 2578864, 100263, 90801, 95406),
    "Health_and_Household": (113393, 3692658, 252223, 304222, 290457),
}


def test_domains_phases_and_backbone() -> None:
    assert set(SPEC.data.domains) == set(TABLE_1)
    assert SPEC.phases.calendar() == PAPER_CALENDAR
    assert isinstance(SPEC.backbone, PretrainedBackbone)
    assert SPEC.backbone.path == "Qwen/Qwen3-0.6B"
    assert SPEC.item_vectors.path == "Qwen/Qwen3-Embedding-8B"
    for domain, (users, *interactions) in TABLE_1.items():
        expected = SPEC.data.expected[domain]
        assert expected.test_users == users
        assert [*expected.interactions.model_dump().values()] == interactions


def test_trainings() -> None:
    for name in ("text", "semid", "semb"):
        recipe = SPEC.recipe(name)
        assert [recipe.epochs.of(phase) for phase in ("pretrain", "phase1", "phase2")] == [3, 2, 2]
        rates = [recipe.learning_rate.of(phase) for phase in ("pretrain", "phase1", "phase2")]
        assert rates == ([1e-4, 5e-5, 5e-5] if name == "semb" else [5e-5, 1e-5, 1e-5])
        assert (recipe.batch_size, recipe.schedule, recipe.precision) == (16, "cosine", "bf16")
        assert recipe.history_length == 25
    text, semid, semb = (SPEC.recipe(name) for name in ("text", "semid", "semb"))
    for recipe in (text, semid):
        assert (recipe.warmup_steps, recipe.targets_per_user, recipe.earlier_items) == (50, 5, 4)
    assert (text.text_tokens, text.title_tokens, text.titles, text.popularity_gamma) == (64, 32, 5, 0)
    assert (semid.item_group, semid.replay, semid.code_weight, semid.beam_width) == (5, 0.1, 10, 20)
    assert (semb.negatives, semb.weight_decay, semb.warmup_ratio, semb.text_tokens) == (512, 0.001, 0.1, 64)
    assert not semb.batch_negatives
    assert semb.targets == "phase"


def test_codes_are_lc_recs() -> None:
    codes = SPEC.semantic_ids.quantiser
    assert isinstance(codes, RqVaeRecipe)
    assert (codes.levels, codes.codes, codes.width, codes.beta) == (4, 256, 32, 0.25)
    assert codes.hidden == (2048, 1024, 512, 256, 128, 64)
    assert (codes.sinkhorn_epsilon, codes.reassign_rounds, codes.learning_rate) == (0.003, 20, 1e-3)


def test_it_has_every_study() -> None:
    kinds = [study.kind for study in SPEC.studies]
    assert kinds == ["baselines", "vectors", "cross_domain", "base_model", "temporal", "recency", "advise"]


@pytest.mark.parametrize("name", ["text", "semid", "semb"])
def test_what_it_writes_out_is_the_default(name: str) -> None:
    assert SPEC.recipe(name) == PARADIGMS[name].resolve({}, backbone_kind="pretrained", history_length=25)
