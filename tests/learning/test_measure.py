"""Statistics that are measured: the Fisher information, and the inputs of linear layers."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from kits.learnable import Sources, make_sources
from mmgrid.learning import LearningError, LearningSettings, learn
from mmgrid.learning.domains import OpenDomain
from mmgrid.learning.output import write_learned
from mmgrid.learning.questions import Questions
from mmgrid.learning.statistics import log_probability
from mmgrid.merging import merge
from mmgrid.paradigms.shared.packing import real_places
from mmgrid.seeds import derive

FEW = {"number": 5}


def test_the_fisher_information_is_the_mean_square_of_the_gradient(trained: Sources) -> None:
    """Of the log-probability of drawn choices, user by user; its mean over the model is 1."""
    settings = LearningSettings.of("fisher", FEW)
    learned = learn("fisher", trained.recipe, trained.domains, settings)
    opened = OpenDomain.open("garden", trained.domains["garden"], 0)
    opened.model.eval()
    questions = Questions(opened, settings, batch_size=1)
    draw = torch.Generator().manual_seed(derive(0, "fisher", "garden"))
    named = dict(opened.model.named_parameters())
    squares = {name: torch.zeros_like(weight) for name, weight in named.items()}
    for user in range(len(questions)):
        predictions = opened.paradigm.predictions(opened.model, questions.alone(user, torch.device("cpu")))
        gradients = torch.autograd.grad(log_probability(predictions, draw), list(named.values()))
        for name, gradient in zip(named, gradients, strict=True):
            squares[name] += gradient**2
    mean = torch.cat([one.reshape(-1) for one in squares.values()]).mean()
    found = learned.statistics["garden"]
    assert found.keys() == {f"fisher:{name}" for name in named}
    for name, square in squares.items():
        torch.testing.assert_close(found[f"fisher:{name}"], square / mean, rtol=1e-4, atol=1e-6)
    assert learned.users == {"garden": 5, "kitchen": 5}


def test_choices_are_drawn_as_the_model_expects_them() -> None:
    from mmgrid.paradigms.contract import Predictions

    logits = torch.log(torch.tensor([0.7, 0.2, 0.1])).repeat(4000, 1)
    logits = torch.cat([logits, torch.full((4000, 1), float("-inf"))], dim=1).requires_grad_()
    draw = torch.Generator().manual_seed(0)
    log_probability([Predictions(logits, torch.zeros(4000, dtype=torch.long))], draw).backward()
    assert logits.grad is not None
    drawn = (logits.grad > 0).float().mean(0)
    assert drawn.tolist() == pytest.approx([0.7, 0.2, 0.1, 0.0], abs=0.03)


@pytest.mark.parametrize("paradigm", ["semb", "semid", "text", "sasrec"])
def test_grams_are_those_of_the_inputs_of_linear_layers(paradigm: str, tmp_path: Path) -> None:
    """Against hooks on one layer, user by user; embeddings that are heads at the same time have none."""
    sources = make_sources(paradigm, tmp_path)
    settings = LearningSettings.of("regmean", FEW)
    found = learn("regmean", sources.recipe, sources.domains, settings).statistics["kitchen"]
    opened = OpenDomain.open("kitchen", sources.domains["kitchen"], 0)
    opened.model.eval()
    linear = {n: m for n, m in opened.model.named_modules() if isinstance(m, torch.nn.Linear) and "head" not in n}
    assert {f"gram:{name}.weight" for name in linear} == found.keys()
    name, layer = next(iter(linear.items()))
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    questions = Questions(opened, settings, batch_size=1)
    for user in range(len(questions)):
        batch = questions.alone(user, torch.device("cpu"))
        opened.paradigm.predictions(opened.model, batch)
        real = real_places(batch)
        if real is not None and seen[-1].shape[:2] == real.shape:
            assert real.sum() < real.numel() or len(real) == 1
            seen[-1] = seen[-1][real]
    inputs = torch.cat([one.reshape(-1, one.shape[-1]) for one in seen]).double()
    expected = (inputs.T @ inputs / len(inputs)).float()
    torch.testing.assert_close(found[f"gram:{name}.weight"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("learner", ["fisher", "regmean"])
@pytest.mark.parametrize("paradigm", ["semb", "semid"])
def test_the_recipe_merges_without_data(paradigm: str, learner: str, tmp_path: Path) -> None:
    """Beside its files of statistics, from relative paths, to the same bits twice; not the plain average."""
    sources = make_sources(paradigm, tmp_path)
    learned = learn(learner, sources.recipe, sources.domains, LearningSettings.of(learner, {**FEW, "users": "pseudo"}))
    kind = "fisher" if learner == "fisher" else "gram"
    recipe, *files = write_learned(learned, tmp_path / "learned.yml")
    assert [file.name for file in files] == [f"learned-{name}.{kind}.safetensors" for name in ("garden", "kitchen")]
    value = yaml.safe_load(recipe.read_text())
    assert value["sources"][0]["statistics"] == files[0].name
    for name in ("one", "two"):
        merge(recipe, tmp_path / name)
    merged = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert merged == (tmp_path / "two" / "model.safetensors").read_bytes()
    merge({**sources.recipe, "method": "linear", "base": None}, tmp_path / "mean")
    average, merged = (load_file(tmp_path / name / "model.safetensors") for name in ("mean", "one"))
    q = next(name for name in average if "q_proj.weight" in name)
    assert not torch.allclose(merged[q], average[q], rtol=1e-3)


def test_each_source_needs_a_domain(trained: Sources) -> None:
    with pytest.raises(LearningError, match="each source needs a name and a domain"):
        learn("fisher", trained.recipe, {"garden": trained.domains["garden"]})
