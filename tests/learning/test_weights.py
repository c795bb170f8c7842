"""Learned weights: their gradient, what they are worth, and the recipe that they become."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from kits.learnable import N_ITEMS, Sources, make_sources
from mmgrid.learning import LEARNERS, LearningDomain, LearningError, LearningSettings, learn
from mmgrid.learning.domains import OpenDomain, newest_apart
from mmgrid.learning.groups import group_of
from mmgrid.learning.mixture import Mixture
from mmgrid.learning.output import write_recipe
from mmgrid.learning.weights import MergedLoss, learn_weights
from mmgrid.merging import merge, merge_state_dicts
from mmgrid.merging.engine.vectors import summands
from mmgrid.merging.plan.prepare import prepare_merge
from mmgrid.merging.plan.recipe import MergeRecipe
from mmgrid.merging.verify import verify
from mmgrid.paradigms import Recommender
from mmgrid.testing.data import make_histories

FEW = {"number": 12, "batch_size": 6, "steps": 3}


def merged_loss(sources: Sources, settings: LearningSettings) -> MergedLoss:
    with prepare_merge(MergeRecipe.load(sources.recipe).anchored(), workers=1, digests=False) as prepared:
        mixture = Mixture(summands(prepared.program, prepared.plan, workers=1), settings.per, torch.device("cpu"))
    opened = [OpenDomain.open(name, domain, 0) for name, domain in sources.domains.items()]
    return MergedLoss(mixture, opened, settings)


@pytest.mark.parametrize("learner", ["mergerec", "adamerging"])
@pytest.mark.parametrize("paradigm", ["sasrec", "semb", "semid", "text"])
def test_the_gradient_is_that_of_the_loss(paradigm: str, learner: str, tmp_path: Path) -> None:
    """Central differences of the loss, along random directions in the space of the weights."""
    sources = make_sources(paradigm, tmp_path)
    loss = merged_loss(sources, LearningSettings.of(learner, {**FEW, "per": "layer", "users": "histories"}))
    for one in loss._asked:
        one.live.double()
        one.domain.model.double()
    shape = len(loss.mixture.groups), len(loss.mixture.sources)
    draw = torch.Generator().manual_seed(0)
    weights = 0.3 + 0.1 * torch.randn(shape, generator=draw, dtype=torch.float64)
    _, gradient = loss.at(weights, step=0)
    assert (gradient.abs().sum(0) > 0).all()
    for _ in range(3):
        direction = torch.randn(shape, generator=draw, dtype=torch.float64)
        ahead, behind = (loss.at(weights + step * direction, step=0)[0] for step in (1e-3, -1e-3))
        scalars = scalar_share(loss, weights, direction)
        assert (ahead - behind) / 2e-3 - scalars == pytest.approx(
            float((gradient * direction).sum()), rel=0.03, abs=2e-4
        )


def scalar_share(loss: MergedLoss, weights: torch.Tensor, direction: torch.Tensor) -> float:
    """The slope along a direction that scalars (a learned temperature) cause, which the gradient leaves out."""
    parts = loss.mixture._parts
    ends = []
    for step in (1e-3, -1e-3):
        loss.mixture._parts = [part for part in parts if part.size > 1]
        for one in loss._asked:
            loss.mixture._parts = parts
            loss.mixture.place(one.live, one.domain.name, weights + step * direction)
        loss.mixture._parts = [part for part in parts if part.size > 1]
        ends.append(loss.at(weights, step=0)[0])
    loss.mixture._parts = parts
    return (ends[0] - ends[1]) / 2e-3


def test_learned_weights_beat_equal_ones(trained: Sources) -> None:
    """One source knows the next item, the other is noise: what was learned ranks it better than the average."""
    learned = learn("mergerec", trained.recipe, trained.domains, LearningSettings.of("mergerec", trained_values()))
    weights = learned.weights["*"]
    assert weights["garden"] > 0.7 > 0.2 > weights["kitchen"]
    assert np.mean(learned.losses[-5:]) < 0.8 * learned.losses[0]
    equal = {**trained.recipe, "sources": [{**one, "weight": 0.5} for one in trained.recipe["sources"]]}
    assert mean_rank(learned.recipe, trained) < 0.6 * mean_rank(MergeRecipe.load(equal), trained)


def trained_values(**changed: object) -> dict[str, object]:
    """Real users of a chain, and only their next items: what is learned is known."""
    return {
        "users": "histories",
        "distillation": 0.0,
        "start": 0.5,
        "steps": 40,
        "learning_rate": 0.03,
        "batch_size": 20,
        **changed,
    }


def mean_rank(recipe: MergeRecipe, sources: Sources) -> float:
    """Of the next item of a chain, under the merge."""
    opened = OpenDomain.open("garden", sources.domains["garden"], 0)
    state = merge_state_dicts(
        "task_arithmetic",
        {name: load_file(path / "model.safetensors") for name, path in sources.models.items()},
        base=load_file(sources.base / "model.safetensors"),
        weights={str(one.name): one.weight or 0.0 for one in recipe.sources},
    )
    opened.model.load_state_dict(state)
    starts = range(N_ITEMS - 4)
    histories = make_histories([[start, start + 1, start + 2] for start in starts])
    ranks = opened.paradigm.rank(opened.model, histories, opened.items, np.array([start + 3 for start in starts]))
    return float(ranks.mean())


def test_pseudo_users_need_items_alone(trained: Sources, tmp_path: Path) -> None:
    """Without a table of interactions the same weights come out as with one."""
    domains = {}
    for name, folder in trained.data.items():
        alone = tmp_path / name
        alone.mkdir()
        (alone / "items.parquet").write_bytes((folder / "items.parquet").read_bytes())
        domains[name] = LearningDomain(Recommender(trained.models[name]), alone)
    settings = LearningSettings.of("mergerec", FEW)
    assert learn("mergerec", trained.recipe, domains, settings) == learn(
        "mergerec", trained.recipe, trained.domains, settings
    )
    with pytest.raises(LearningError, match="kitchen: no user has two interactions .* use pseudo-users"):
        learn("adamerging", trained.recipe, {**trained.domains, "kitchen": domains["kitchen"]})


@pytest.mark.parametrize("per", ["domain", "tower", "layer", "tensor"])
def test_the_recipe_gives_the_same_bits_again(per: str, tmp_path: Path) -> None:
    """The file is an ordinary recipe: merged twice from another place, and equal to what was learned, tensor by tensor."""
    sources = make_sources("semb", tmp_path)
    settings = LearningSettings.of("adamerging", {**FEW, "per": per, "learning_rate": 0.05})
    learned = learn("adamerging", sources.recipe, sources.domains, settings)
    write_recipe(learned.recipe, tmp_path / "recipe.yml")
    value = yaml.safe_load((tmp_path / "recipe.yml").read_text())
    assert not Path(value["sources"][0]["path"]).is_absolute()
    merge(tmp_path / "recipe.yml", tmp_path / "one")
    merge(tmp_path / "recipe.yml", tmp_path / "two", workers=2)
    weights = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert weights == (tmp_path / "two" / "model.safetensors").read_bytes()
    assert verify(tmp_path / "one").equal
    base, *models = (
        load_file(path / "model.safetensors")
        for path in (sources.base, *(sources.models[name] for name in ("garden", "kitchen")))
    )
    merged = load_file(tmp_path / "one" / "model.safetensors")
    for name, tensor in merged.items():
        own = learned.weights[group_of(name, per)]  # type: ignore[arg-type]
        deltas = (
            own[source] * (model[name] - base[name])
            for source, model in zip(("garden", "kitchen"), models, strict=True)
        )
        torch.testing.assert_close(tensor, base[name] + sum(deltas), rtol=1e-5, atol=1e-6)
    distinct = {json.dumps(one) for one in learned.weights.values()}
    assert len(distinct) > 1 or per == "domain"
    assert all(0 <= weight <= 1 for own in learned.weights.values() for weight in own.values())


def test_learning_again_gives_the_same_weights(trained: Sources) -> None:
    settings = LearningSettings.of("mergerec", FEW)
    first, second = (learn("mergerec", trained.recipe, trained.domains, settings) for _ in range(2))
    assert first == second
    other = learn("mergerec", trained.recipe, trained.domains, settings.model_copy(update={"seed": 1}))
    assert other.weights != first.weights


def test_models_that_say_nothing_teach_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A loss without a gradient leaves every weight where it began, which is said."""
    loss = MergedLoss.__new__(MergedLoss)
    loss.mixture = SimpleNamespace(groups=("*",), sources=("garden", "kitchen"))  # type: ignore[assignment]
    loss.at = lambda weights, step: (0.0, torch.zeros(weights.shape, dtype=torch.float64))  # type: ignore[method-assign]
    settings = LearningSettings.of("mergerec", {"steps": 3})
    learn_weights(loss, settings.model_copy(update={"steps": 0}))
    assert not caplog.records
    weights, losses = learn_weights(loss, settings)
    assert (weights == settings.start).all()
    assert losses == [0.0] * 3
    assert "the loss depends on no weight, so all weights are as they began" in caplog.text


def test_a_recipe_in_a_json_file_is_json(tmp_path: Path) -> None:
    recipe = MergeRecipe.load(
        {"method": "linear", "sources": [{"path": str(tmp_path / "a"), "name": "ä", "weight": 1}]}
    )
    for name in ("r.json", "r.yml"):
        write_recipe(recipe, tmp_path / name)
        assert MergeRecipe.load(tmp_path / name).anchored() == recipe.anchored()
    assert json.loads((tmp_path / "r.json").read_text())["sources"][0]["name"] == "ä"


def test_only_histories_that_the_model_was_trained_on_are_read(trained: Sources, tmp_path: Path) -> None:
    facts = Recommender(trained.models["garden"]).facts
    early = Recommender(trained.models["garden"], facts=replace(facts, trained_until=3))
    opened = OpenDomain.open("garden", LearningDomain(early, trained.data["garden"]), 0)
    assert opened.histories(100, 0).timestamps.max() == 2
    assert (opened.histories(100, 0).lengths == 3).all()


def test_the_newest_item_is_apart() -> None:
    apart = newest_apart(make_histories([[1, 2, 3], [4, 5]]))
    assert apart.timestamps.tolist() == [0, 0, 1, 0, 1]
    assert apart.end == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"method": "ties"},
            "ties: weights are learned for sums of models or of task vectors; use task_arithmetic or linear",
        ),
        ({"scale": 0.5}, "scale: is 0.5; the learned weights take its place"),
        ({"rules": [{"tensors": "a*", "scale": 0.1}]}, "rules: the learned weights become rules themselves"),
    ],
)
def test_recipes_that_are_no_plain_sum_are_refused(change: dict, message: str, trained: Sources) -> None:
    with pytest.raises(LearningError, match=message):
        learn("mergerec", {**trained.recipe, **change}, trained.domains)


def test_each_source_needs_a_domain(trained: Sources) -> None:
    with pytest.raises(
        LearningError, match="each source needs a name and a domain; sources: garden, kitchen; domains: garden"
    ):
        learn("mergerec", trained.recipe, {"garden": trained.domains["garden"]})


def test_settings_are_checked() -> None:
    with pytest.raises(LearningError, match="unknown learner 'mergrec'; did you mean mergerec"):
        LearningSettings.of("mergrec")
    with pytest.raises(LearningError, match="mergerec: unknown setting 'step'; did you mean steps"):
        LearningSettings.of("mergerec", {"step": 3})
    with pytest.raises(LearningError, match="adamerging: learning_rate: should be greater than 0"):
        LearningSettings.of("adamerging", {"learning_rate": 0})
    assert {"mergerec", "adamerging"} <= set(LEARNERS)
