"""A domain's checkpoint comes back from a family: bit for bit, or as near as its part says."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kits.arrays import bytes_of, values_of, write_model
from mmgrid.families import build, expand
from mmgrid.merging import MergeError
from mmgrid.merging.arrays.floats import narrow, widen

TYPES = ("float32", "bfloat16", "float16")
SHAPES = st.lists(st.integers(0, 9), min_size=0, max_size=3).map(tuple)
_numbers = itertools.count()


def made(tmp_path: Path, part: Any, dtype: str, seed: int, shapes: dict[str, tuple[int, ...]], **family: Any) -> Path:
    """A family of two domains, near a base, in a new folder that also holds `base`, `a` and `b`."""
    rng, folder = np.random.default_rng(seed), tmp_path / f"case{next(_numbers)}"
    base = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    write_model(folder / "base", base, dtype)
    for name in ("a", "b"):
        near = {key: value + 0.1 * rng.standard_normal(value.shape).astype(np.float32) for key, value in base.items()}
        write_model(folder / name, near, dtype)
    recipe = {
        "base": str(folder / "base"),
        "sources": [{"name": name, "path": str(folder / name)} for name in ("a", "b")],
        "method": "linear",
        "options": {"normalise": True},
        "family": {"part": part, **family},
    }
    build(recipe, folder / "family", workers=1)
    return folder


def back(folder: Path, domain: str = "a") -> Path:
    out = folder / f"expanded-{domain}"
    expand(folder / "family", out, domain=domain, workers=1)
    return out


EASY = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@EASY
@given(
    st.sampled_from(["own", "exact"]),
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from("xyz"), SHAPES, min_size=1),
    st.integers(0, 9),
)
def test_own_and_exact_give_every_bit(tmp_path: Path, part: str, dtype: str, shapes: dict, seed: int) -> None:
    folder = made(tmp_path, part, dtype, seed, shapes)
    for domain in ("a", "b"):
        assert bytes_of(back(folder, domain)) == bytes_of(folder / domain)


@EASY
@given(
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from([None, 8]),
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from("xyz"), SHAPES, min_size=1),
    st.sampled_from(["own", "part"]),
    st.integers(0, 9),
)
def test_a_delta_is_what_its_codes_say(
    tmp_path: Path, bits: int, group: int | None, dtype: str, shapes: dict, vectors: str, seed: int
) -> None:
    part = {"kind": "delta", "bits": bits, "group": group, "vectors": vectors}
    folder = made(tmp_path, part, dtype, seed, shapes)
    own, shared, found = (values_of(each) for each in (folder / "a", folder / "family/shared", back(folder)))
    entry = json.loads((folder / "family/family.json").read_text())["domains"]["a"]
    for name, value in own.items():
        if entry["tensors"][name]["kind"] != "delta":
            assert (found[name] == value).all()
            continue
        expected = _decoded(folder / "family/parts/a/delta.safetensors", name, value.shape, bits, group, shared[name])
        assert (found[name] == widen(narrow(expected.reshape(-1), dtype), dtype).reshape(value.shape)).all()
    lost = [(found[name] - own[name]).ravel() for name in own if entry["tensors"][name]["kind"] == "delta"]
    change = [(own[name] - shared[name]).ravel() for name in own if entry["tensors"][name]["kind"] == "delta"]
    if change and np.concatenate(change).any():
        error = np.linalg.norm(np.concatenate(lost)) / np.linalg.norm(np.concatenate(change))
        assert entry["parts"][0]["error"] == pytest.approx(error, rel=1e-4, abs=1e-9)


def _decoded(file: Path, name: str, shape: tuple[int, ...], bits: int, group: int | None, shared: np.ndarray):
    """The tensor by its definition, one element after the other."""
    held = {key: (bytes_, dtype) for key, (dtype, _, bytes_) in bytes_of(file).items()}
    stream = int.from_bytes(held[f"{name}:codes"][0], "little")
    levels = np.frombuffer(held[f"{name}:levels"][0], "<f4")
    scales = widen(np.frombuffer(held[f"{name}:scales"][0], "<u2").copy(), "bfloat16")
    columns = shape[-1] if shape else 1
    length = min(group or columns, columns)
    groups = -(-columns // length)
    flat = shared.ravel().copy()
    for place in range(flat.size):
        row, column = divmod(place, columns)
        code = (stream >> (place * bits)) % 2**bits
        flat[place] += levels[code] * scales[row * groups + column // length]
    return flat.reshape(shape)


@EASY
@given(
    st.sampled_from(["emr", "tall"]),
    st.sampled_from(["model", "tensor", "none"]),
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from("xyz"), SHAPES, min_size=1),
    st.integers(0, 9),
)
def test_a_mask_is_as_its_paper_says(
    tmp_path: Path, rule: str, rescale: str, dtype: str, shapes: dict, seed: int
) -> None:
    part = {"kind": "mask", "rule": rule, "rescale": rescale, "vectors": "part"}
    folder = made(tmp_path, part, dtype, seed, shapes)
    base, own, shared, found = (
        values_of(each) for each in (folder / "base", folder / "a", folder / "family/shared", back(folder))
    )
    tau, change = ({name: each[name] - base[name] for name in base} for each in (own, shared))
    same = {name: np.array_equal(own[name], shared[name]) for name in base}
    masks = {
        name: tau[name] * change[name] > 0
        if rule == "emr"
        else np.abs(tau[name]) >= np.abs(change[name] - tau[name]) * np.float32(0.4)
        for name in base
    }
    coded = [name for name in base if not same[name]]
    total = [
        (np.abs(tau[name]).sum(dtype=np.float64), np.abs(change[name] * masks[name]).sum(dtype=np.float64))
        for name in coded
    ]
    for name in coded:
        sums = {"model": np.sum(total, axis=0), "tensor": total[coded.index(name)], "none": (1.0, 1.0)}[rescale]
        factor = sums[0] / sums[1] if sums[1] else 0.0
        expected = base[name] + factor * masks[name] * change[name]
        step = {"float32": 1e-6, "bfloat16": 2**-8, "float16": 2**-11}[dtype]
        np.testing.assert_allclose(found[name], expected, rtol=2 * step, atol=2 * step)


@pytest.mark.parametrize("dtype", TYPES)
def test_nan_infinities_and_whole_numbers_come_back_from_exact_and_own(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = {"float32": np.uint32, "bfloat16": np.uint16, "float16": np.uint16}[dtype]
    for part in ("exact", "own"):
        folder = tmp_path / part
        for name in ("base", "a", "b"):
            write_model(
                folder / name, {"w": rng.standard_normal((4, 8)).astype(np.float32), "n": np.arange(7) % 3 > 0}, dtype
            )
        # Every bit pattern that a float may have, payloads of NaN included.
        file = folder / "a/model.safetensors"
        data = file.read_bytes()
        size = 32 * raw().itemsize
        start = len(data) - size - 7
        file.write_bytes(data[:start] + rng.integers(0, np.iinfo(raw).max, 32, raw).tobytes() + data[start + size :])
        recipe = {
            "base": str(folder / "base"),
            "sources": [{"path": str(folder / name)} for name in ("a", "b")],
            "family": {"part": part},
        }
        build(recipe, folder / "family")
        assert bytes_of(back(folder)) == bytes_of(folder / "a")


@pytest.mark.parametrize("part", ["delta", {"kind": "low_rank", "rank": 2}])
def test_nan_is_refused_where_it_cannot_be_written(part: Any, tmp_path: Path) -> None:
    base = np.zeros((4, 8), np.float32)
    broken = base.copy()
    broken[1, 2] = np.nan
    write_model(tmp_path / "base", {"w.weight": base})
    write_model(tmp_path / "a", {"w.weight": broken})
    recipe = {"base": str(tmp_path / "base"), "sources": [{"path": str(tmp_path / "a")}], "family": {"part": part}}
    with pytest.raises(MergeError, match=r"tensor w.weight: holds NaN"):
        build(recipe, tmp_path / "family")
    assert not (tmp_path / "family").exists()


@pytest.mark.parametrize(
    "part", ["own", "exact", {"kind": "delta", "bits": 3}, "mask", {"kind": "low_rank", "rank": 2}]
)
def test_threads_change_no_byte(part: Any, tmp_path: Path) -> None:
    shapes = {"a.weight": (300, 1000), "b.weight": (7, 11), "norm.weight": (40,)}
    one, other = (made(tmp_path, part, "bfloat16", 0, shapes) for _ in range(2))
    shutil.rmtree(other / "family")
    recipe = json.loads((one / "family/family.json").read_text())["recipe"]
    recipe["sources"] = [{"name": source["name"], "path": str(one / source["name"])} for source in recipe["sources"]]
    recipe |= {"base": str(one / "base"), "method": "linear"}
    build(recipe, other / "family", workers=3)
    parts = [file.relative_to(one / "family") for file in (one / "family").rglob("*.safetensors")]
    assert len(parts) >= 3
    for file in parts:
        assert (one / "family" / file).read_bytes() == (other / "family" / file).read_bytes(), file
    expand(one / "family", tmp_path / "few", domain="b", workers=1)
    expand(other / "family", tmp_path / "many", domain="b", workers=3)
    assert (tmp_path / "few/model.safetensors").read_bytes() == (tmp_path / "many/model.safetensors").read_bytes()
