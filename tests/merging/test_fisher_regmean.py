"""Methods that take statistics of the sources: `fisher` and `regmean`, and the files that they read."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from kits.tiny_llama import tiny_llama
from mmgrid.merging import METHODS, MergeError, merge, merge_state_dicts
from mmgrid.merging.cost import estimate
from mmgrid.merging.verify import verify
from mmgrid.testing.merge_method import MergeMethodKit, MethodCase


def _draw(*names: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(" ".join(names).encode()))


def information(source: str, tensor: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """A Fisher information with elements that nothing depends on; none for one of the tensors."""
    if tensor in ("positions", "layers.1.scale"):
        return None
    drawn = _draw(source, tensor)
    return (drawn.standard_normal(shape) ** 2 * (_draw(tensor).random(shape) > 0.2)).astype(np.float32)


def gram(source: str, tensor: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The inputs of a linear layer, one of which is always zero; none for embeddings, vectors and empty tensors."""
    if len(shape) != 2 or "embed" in tensor or not shape[0]:
        return None
    inputs = _draw(source, tensor).standard_normal((5 * shape[1], shape[1]))
    inputs[:, 1] = 0
    return (inputs.T @ inputs / len(inputs)).astype(np.float32)


def fisher(sources, base, weights, options):
    """The formula, element by element, in float64."""
    merged = {}
    for name in next(iter(sources.values())):
        shape = next(iter(sources.values()))[name].shape
        above, below = np.zeros(shape), np.zeros(shape)
        for source, model in sources.items():
            own = information(source, name, shape)
            share = weights[source] * (np.ones(shape) if own is None else own.astype(np.float64) + options["floor"])
            above, below = above + share * model[name], below + share
        mean = sum(weights[source] * model[name] for source, model in sources.items()) / sum(weights.values())
        merged[name] = np.where(below > 0, above / np.where(below > 0, below, 1), mean)
    return merged


def regmean(sources, base, weights, options):
    """The formula with numpy's inverse, in float64."""
    total, merged = sum(weights.values()), {}
    for name, tensor in next(iter(sources.values())).items():
        grams = {source: gram(source, name, tensor.shape) for source in sources}
        if any(one is None for one in grams.values()):
            merged[name] = sum(weights[source] * model[name] for source, model in sources.items()) / total
            continue
        alpha = options["alpha"]
        scaled = {
            s: alpha * g.astype(float) + (1 - alpha) * np.diag(np.diag(g)).astype(float) for s, g in grams.items()
        }
        size = sum(weights[s] * np.diag(g).mean() for s, g in scaled.items()) / total
        damped = {s: g + options["damping"] * size * np.eye(len(g)) for s, g in scaled.items()}
        above = sum(weights[s] * model[name] @ damped[s] for s, model in sources.items())
        merged[name] = above @ np.linalg.inv(sum(weights[s] * g for s, g in damped.items()))
    return merged


CASES = [
    MethodCase(METHODS["fisher"], fisher, statistics=information),
    MethodCase(METHODS["fisher"], fisher, statistics=information, base=True, options={"floor": 0.1}),
    MethodCase(METHODS["regmean"], regmean, statistics=gram),
    MethodCase(METHODS["regmean"], regmean, statistics=gram, base=True, options={"alpha": 1.0, "damping": 1e-3}),
]


class TestEveryMethod(MergeMethodKit):
    @pytest.fixture(params=CASES, ids=lambda case: case.label)
    def case(self, request: pytest.FixtureRequest) -> MethodCase:
        return request.param


def test_regmean_has_the_outputs_of_every_layer_on_its_own_inputs() -> None:
    """The closed form of a linear layer: least squares over the inputs and outputs of all models."""
    drawn = np.random.default_rng(0)
    layers = {name: drawn.standard_normal((4, 6)).astype(np.float32) for name in "ab"}
    inputs = {name: drawn.standard_normal((50, 6)) @ drawn.standard_normal((6, 6)) for name in "ab"}
    outputs = np.concatenate([inputs[name] @ layers[name].T for name in "ab"])
    expected = np.linalg.lstsq(np.concatenate(list(inputs.values())), outputs, rcond=None)[0].T
    merged = merge_state_dicts(
        "regmean",
        {name: {"w": torch.tensor(layer)} for name, layer in layers.items()},
        statistics={name: {"gram:w": torch.tensor(x.T @ x / 50, dtype=torch.float32)} for name, x in inputs.items()},
        alpha=1.0,
        damping=0.0,
    )
    np.testing.assert_allclose(merged["w"].numpy(), expected, rtol=2e-4, atol=2e-5)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folders `a` and `b`, and a recipe with files of statistics."""
    for seed, name in enumerate("ab"):
        weights = load_file(tiny_llama(tmp_path / name, seed) / "model.safetensors")
        shapes = {tensor: tuple(weight.shape) for tensor, weight in weights.items()}
        measured = {f"fisher:{t}": torch.tensor(information(name, t, shape)) for t, shape in shapes.items()}
        save_file(measured, tmp_path / f"{name}.fisher.safetensors")
    sources = [{"name": n, "path": n, "statistics": f"{n}.fisher.safetensors"} for n in "ab"]
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump({"method": "fisher", "sources": sources}))
    return tmp_path


def test_files_of_statistics_are_read_like_sources(models: Path) -> None:
    """Merged from folders as from memory; digests and the record name them, and a change is noticed."""
    merge(models / "recipe.yml", models / "out")
    weights = {name: load_file(models / name / "model.safetensors") for name in "ab"}
    statistics = {name: load_file(models / f"{name}.fisher.safetensors") for name in "ab"}
    expected = merge_state_dicts("fisher", weights, statistics=statistics)
    merged = load_file(models / "out" / "model.safetensors")
    assert all(merged[name].equal(tensor) for name, tensor in expected.items())
    assert verify(models / "out").equal
    plan = estimate(models / "recipe.yml", measure=False)
    assert plan.bytes_read == 4 * plan.bytes_written
    statistics["a"]["fisher:model.norm.weight"] += 1
    save_file(statistics["a"], models / "a.fisher.safetensors")
    found = verify(models / "out")
    assert set(found.changed) == {"statistics of a"}
    assert set(found.differing) == {"model.norm.weight"}
    (models / "a.fisher.safetensors").unlink()
    assert "the statistics of 'a'" in verify(models / "out").missing[0]


def test_statistics_that_do_not_fit_are_refused(models: Path) -> None:
    def refused(message: str, **change: object) -> None:
        recipe = yaml.safe_load((models / "recipe.yml").read_text())
        for key, value in change.items():
            if key == "sources":
                recipe["sources"][0].update(value)  # type: ignore[call-overload]
            else:
                recipe[key] = value
        recipe["sources"] = [
            {k: str(models / v) if k in ("path", "statistics") and v else v for k, v in one.items() if v is not None}
            for one in recipe["sources"]
        ]
        with pytest.raises(MergeError, match=message):
            merge(recipe, models / "out")
        assert not (models / "out").exists()

    refused(
        "fisher: source 'a' has no statistics of the kind 'fisher'; `mmgrid learn fisher`", sources={"statistics": None}
    )
    refused("regmean: source 'a' has no statistics of the kind 'gram'", method="regmean")
    refused("linear: takes no statistics; leave them out", method="linear")
    kept = load_file(models / "a.fisher.safetensors")
    save_file({name: one for name, one in kept.items() if "norm" not in name}, models / "few.safetensors")
    refused("statistics: a lacks fisher:model.*norm.*, which b has", sources={"statistics": "few.safetensors"})
    save_file({name: one[:1] for name, one in kept.items()}, models / "short.safetensors")
    refused("statistics of a: fisher:.* they belong to another model", sources={"statistics": "short.safetensors"})
    save_file({name: -one for name, one in kept.items()}, models / "negative.safetensors")
    refused("fisher: the statistics hold negative values", sources={"statistics": "negative.safetensors"})
    refused("fisher: a negative weight", sources={"weight": -1.0})
