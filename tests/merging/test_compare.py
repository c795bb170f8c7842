"""Comparisons of models, checked against plain float64 arithmetic."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmgrid.merging import MergeError, TensorFolder
from mmgrid.merging import compare as compare_module
from mmgrid.merging.compare import Comparison, Sums, compare

SHAPES = {
    "item_tower.layers.0.w": (130, 700),
    "item_tower.layers.1.w": (33, 40),
    "item_tower.norm": (40,),
    "user_tower.layers.0.w": (65, 129),
    "user_tower.layers.10.w": (9,),
    "user_tower.layers.2.w": (9,),
    "empty": (0, 4),
    "scalar": (),
}


def _model(folder: Path, seed: int, dtype: torch.dtype = torch.bfloat16, **more: Tensor) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(shape, generator=generator).round(decimals=1).to(dtype) for name, shape in SHAPES.items()
    }
    folder.mkdir(exist_ok=True)
    save_file({**tensors, "ids": torch.arange(5), **more}, folder / "model.safetensors")
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "a", "b", "c")):
        _model(tmp_path / name, seed)
    return tmp_path


def _values(folder: Path, base: Path | None) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    found = load_file(folder / "model.safetensors")
    below = None if base is None else load_file(base / "model.safetensors")
    return {
        name: (tensor.float() - (0 if below is None else below[name].float())).double().flatten()
        for name, tensor in found.items()
        if name != "ids"
    }


def _check(sums: Sums, x: Tensor, y: Tensor, equal: int) -> None:
    pair = sums.pair()
    n = max(x.numel(), 1)
    assert pair.elements == x.numel()
    assert pair.norms == pytest.approx((x.norm().item(), y.norm().item()), rel=1e-12)
    assert pair.distance == pytest.approx((x - y).norm().item(), rel=1e-12)
    assert pair.equal == equal / n
    assert pair.conflicts == (x * y < 0).sum().item() / n
    assert sums.absolutes == pytest.approx((x.abs().sum().item(), y.abs().sum().item()), rel=1e-12)
    assert pair.zeros == ((x == 0).sum().item() / n, (y == 0).sum().item() / n)
    if x.norm() and y.norm():
        assert pair.cosine == pytest.approx((x @ y / x.norm() / y.norm()).item(), rel=1e-11)
    else:
        assert math.isnan(pair.cosine)


@pytest.mark.parametrize("with_base", [False, True])
def test_equals_plain_float64_arithmetic(with_base: bool, models: Path) -> None:
    base = models / "base" if with_base else None
    found = compare(models / "a", models / "b", base=base)
    x, y = _values(models / "a", base), _values(models / "b", base)
    p, q = _values(models / "a", None), _values(models / "b", None)
    equal = {name: int((p[name] == q[name]).sum()) for name in p}
    assert found.models == ("a", "b")
    assert found.of_task_vectors == with_base
    assert set(found.tensors) == set(SHAPES)
    for name, sums in found.tensors.items():
        _check(sums, x[name], y[name], equal[name])
    _check(found.whole, torch.cat(list(x.values())), torch.cat(list(y.values())), sum(equal.values()))
    assert list(found.towers) == ["item_tower", "model", "user_tower"]
    own = [name for name in x if name.startswith("user_tower")]
    _check(
        found.towers["user_tower"],
        torch.cat([x[name] for name in own]),
        torch.cat([y[name] for name in own]),
        sum(equal[name] for name in own),
    )
    layers = [("item_tower", "0"), ("item_tower", "1"), ("item_tower", "outside"), ("model", "outside")]
    assert list(found.layers) == [*layers, ("user_tower", "0"), ("user_tower", "2"), ("user_tower", "10")]
    assert found.whole_numbers == {"ids": True}
    assert found.left_out == {}


def test_neither_runs_nor_threads_change_a_bit(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(elements: int, workers: int) -> Comparison:
        monkeypatch.setattr(compare_module, "CHUNK_ELEMENTS", elements)
        return compare(models / "a", models / "b", base=models / "base", workers=workers)

    expected = of(1 << 17, 1)
    for elements, workers in ((1 << 13, 1), (1 << 14, 3), (1 << 20, 2)):
        assert of(elements, workers) == expected


def test_comparing_several_models_equals_comparing_pairs(models: Path) -> None:
    found = compare(models / "a", models / "b", models / "c", base=models / "base", names=("x", "y", "z"))
    assert found.models == ("x", "y", "z")
    two = compare(models / "b", models / "c", base=models / "base")
    assert found.whole.pair(1, 2) == two.whole.pair()
    assert found.whole.pair(2, 1).norms == two.whole.pair().norms[::-1]
    assert found.whole.pair(0, 0).cosine == pytest.approx(1.0)
    assert found.whole.pair(0, 0).equal == 1.0
    assert found.whole.pair(0, 0).distance == 0.0


def test_a_model_does_not_differ_from_itself(models: Path) -> None:
    pair = compare(models / "a", models / "a").whole.pair()
    assert (pair.distance, pair.equal, pair.conflicts) == (0.0, 1.0, 0.0)
    assert pair.cosine == pytest.approx(1.0)
    still = compare(models / "a", models / "b", base=models / "a").whole.pair()
    assert still.norms[0] == 0.0
    assert math.isnan(still.cosine)


def test_tensors_that_cannot_be_compared_are_listed(models: Path) -> None:
    _model(models / "b", 2, more=torch.ones(3), scalar=torch.ones(2), ids=torch.arange(1, 6))
    found = compare(models / "a", models / "b")
    assert found.left_out == {"more": "a lacks it", "scalar": "shapes differ: a [], b [2]"}
    assert found.whole_numbers == {"ids": False}
    assert "more" not in found.tensors
    _model(models / "b", 2, ids=torch.ones(5))
    assert compare(models / "a", models / "b").left_out == {"ids": "types differ: a int64, b float32"}
    save_file({"other": torch.ones(2)}, models / "c" / "model.safetensors")
    with pytest.raises(MergeError, match="nothing can be compared"):
        compare(models / "a", models / "c")


def test_errors_name_the_model_and_the_tensor(models: Path) -> None:
    _model(models / "b", 2, more=torch.tensor([1.0, math.nan]))
    _model(models / "a", 1, more=torch.ones(2))
    with pytest.raises(MergeError, match=r"tensor more: source 'b' holds NaN"):
        compare(models / "a", models / "b")
    with pytest.raises(MergeError, match="names: 2 models need 2 different names"):
        compare(models / "a", models / "b", names=("a", "a"))
    with pytest.raises(MergeError, match="does not exist"):
        compare(models / "a", models / "nowhere")


def test_accepts_open_models_and_other_types(models: Path) -> None:
    _model(models / "b", 1, torch.float32)
    steps: list[tuple[int, int, str]] = []
    with TensorFolder(models / "a") as a, TensorFolder(models / "b") as b:
        found = compare(a, b, progress=lambda *step: steps.append(step))
    assert found.whole.pair().distance < 0.02 * found.whole.pair().norms[0]
    assert steps[-1][0] == steps[-1][1]
