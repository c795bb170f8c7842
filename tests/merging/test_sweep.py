"""Sweeps: several merges from one pass over the sources, each equal to a single merge."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmgrid.merging import Change, MergeError, TensorFolder, merge, sweep

SHAPES = {"embed.weight": (50, 8), "layers.0.weight": (70, 33), "layers.1.weight": (70, 33), "norm.weight": (33,)}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for number, name in enumerate(("base", "books", "toys")):
        draw = torch.Generator().manual_seed(number)
        (tmp_path / name).mkdir()
        weights = {tensor: torch.randn(shape, generator=draw).bfloat16() for tensor, shape in SHAPES.items()}
        save_file(weights, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"dtype": "bfloat16"}')
    return tmp_path


def _recipe(models: Path, method: str = "ties", **values) -> dict:
    sources = [{"name": name, "path": str(models / name)} for name in ("books", "toys")]
    base = None if method == "slerp" else str(models / "base")
    return {"method": method, "sources": sources, "base": base, **values}


@pytest.mark.parametrize(
    ("method", "options"),
    [("ties", {"preset": "subspace"}), ("dare", {"drop": 0.5}), ("task_arithmetic", {}), ("model_stock", {})],
)
def test_each_scale_equals_a_single_merge(models: Path, method: str, options: dict) -> None:
    scales = [-0.5, 0.0, 0.3, 1.0, 2.0]
    outs = {models / f"swept{scale}": Change(scale=scale) for scale in scales}
    reports = sweep(_recipe(models, method, options=options), outs, workers=2)
    for scale, report in zip(scales, reports, strict=True):
        alone = models / f"alone{scale}"
        merge(_recipe(models, method, options=options, scale=scale), alone)
        assert report.out == models / f"swept{scale}"
        for file in ("model.safetensors", "config.json", "mmgrid.json"):
            assert (report.out / file).read_bytes() == (alone / file).read_bytes(), (scale, file)


@pytest.mark.parametrize("method", ["ties", "slerp"])
def test_each_alpha_equals_a_single_merge(models: Path, method: str) -> None:
    alphas = [0.0, 0.1, 0.5, 1.0]
    weights = [{"books": alpha, "toys": 1 - alpha} for alpha in alphas]
    outs = {models / f"swept{alpha}": Change(weights=each) for alpha, each in zip(alphas, weights, strict=True)}
    sweep(_recipe(models, method), outs)
    for alpha, each in zip(alphas, weights, strict=True):
        recipe = _recipe(models, method)
        for source in recipe["sources"]:
            source["weight"] = each[source["name"]]
        merge(recipe, models / f"alone{alpha}")
        for file in ("model.safetensors", "mmgrid.json"):
            assert (models / f"swept{alpha}" / file).read_bytes() == (models / f"alone{alpha}" / file).read_bytes()


def test_sources_are_read_once_for_all_outputs(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    plain = TensorFolder.read

    def counted(self, name: str, start: int, stop: int):
        read.append((self.path.name, name, start))
        return plain(self, name, start, stop)

    monkeypatch.setattr(TensorFolder, "read", counted)
    outs = {models / f"swept{scale}": Change(scale=scale) for scale in (0.1, 0.2, 0.3, 0.4)}
    sweep(_recipe(models, "task_arithmetic"), outs, workers=1)
    assert len(read) == len(set(read)) == 3 * len(SHAPES)


def test_an_invalid_sweep_leaves_nothing_behind(models: Path) -> None:
    outs = {models / "one": Change(scale=0.5), models / "two": Change(scale=float("inf"))}
    with pytest.raises(MergeError, match="scale is inf"):
        sweep(_recipe(models), outs)
    with pytest.raises(MergeError, match="there is no source 'boooks'; did you mean books"):
        sweep(_recipe(models), {models / "one": Change(weights={"boooks": 1.0})})
    rules = [{"tensors": "embed.*", "scale": 0.0}]
    with pytest.raises(MergeError, match="rules: a sweep cannot change"):
        sweep(_recipe(models, rules=rules), {models / "one": Change(scale=0.5)})
    (models / "taken").mkdir()
    (models / "taken" / "file").write_text("mine")
    with pytest.raises(MergeError, match="exists already"):
        sweep(_recipe(models), {models / "one": Change(scale=0.5), models / "taken": Change(scale=1.0)})
    assert sorted(path.name for path in models.iterdir()) == ["base", "books", "taken", "toys"]


def test_each_record_contains_the_values_of_its_output(models: Path) -> None:
    outs = {models / "out": Change(weights={"books": 0.25, "toys": 0.75}, scale=0.5)}
    sweep(_recipe(models), outs)
    recipe = json.loads((models / "out" / "mmgrid.json").read_text())["recipe"]
    assert recipe["scale"] == 0.5
    assert {source["name"]: source["weight"] for source in recipe["sources"]} == {"books": 0.25, "toys": 0.75}
