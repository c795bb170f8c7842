"""The study of task vectors, on weights written by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kits.planted import schemas_hold
from mmgrid.merging import MergeError
from mmgrid.studies import vectors

BASE = {"item.layers.0.w": torch.tensor([1.0, 2.0, 3.0, 4.0]), "item.layers.1.w": torch.zeros(2)}


def _folder(path: Path, *steps: list[float]) -> Path:
    path.mkdir(parents=True)
    moved = {name: BASE[name] + torch.tensor(step) for name, step in zip(BASE, steps, strict=True)}
    save_file(moved, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return _folder(tmp_path / "base", [0.0] * 4, [0.0] * 2)


def test_norms_and_cosines_by_hand(tmp_path: Path, base: Path) -> None:
    one = _folder(tmp_path / "a", [3.0, -4.0, 0.0, 0.0], [0.0, 0.0])
    other = _folder(tmp_path / "b", [3.0, 4.0, 1.0, 0.0], [2.0, 0.0])
    tables = vectors.answer({"phase2": {"b": other, "a": one}}, base, paradigm="semb", seed=3)
    schemas_hold(tables, vectors.TABLES)
    whole = {row["domain"]: row for row in tables["norms"].to_dicts() if row["part"] == "whole"}
    assert [whole["a"][name] for name in ("elements", "l1_sum", "l2", "seed")] == [6, 7.0, 5.0, 3]
    assert whole["a"]["l1_mean"] == pytest.approx(7 / 6)
    assert (whole["a"]["zeros"], whole["b"]["zeros"]) == (pytest.approx(4 / 6), pytest.approx(2 / 6))
    assert whole["b"]["l2"] == pytest.approx(30**0.5)
    (pair,) = (row for row in tables["pairs"].to_dicts() if row["part"] == "whole")
    assert (pair["first"], pair["second"], pair["phase"]) == ("a", "b", "phase2")
    assert pair["cosine"] == pytest.approx((9 - 16) / (5 * 30**0.5))
    assert pair["conflicts"] == pytest.approx(1 / 6)


def test_the_parts_make_up_the_whole(tmp_path: Path, base: Path) -> None:
    folders = {d: _folder(tmp_path / d, [1.0, x, 0.0, -x], [x, 1.0]) for d, x in (("a", 2.0), ("b", -1.0), ("c", 0.5))}
    tables = vectors.answer({"phase1": folders, "phase2": folders}, base, paradigm="semb", seed=0)
    assert len([row for row in tables["pairs"].to_dicts() if row["part"] == "whole"]) == 2 * 3
    rows = tables["norms"].to_dicts()
    for phase in ("phase1", "phase2"):
        for domain in folders:
            own = [row for row in rows if (row["phase"], row["domain"]) == (phase, domain)]
            (whole,) = (row for row in own if row["part"] == "whole")
            layers = [row for row in own if row["part"] == "layer"]
            assert [row["layer"] for row in layers] == ["0", "1"]
            assert sum(row["l1_sum"] for row in layers) == pytest.approx(whole["l1_sum"])
            assert sum(row["elements"] for row in layers) == whole["elements"] == 6


def test_one_domain_has_norms_and_no_pairs(tmp_path: Path, base: Path) -> None:
    one = _folder(tmp_path / "a", [3.0, -4.0, 0.0, 0.0], [0.0, 0.0])
    tables = vectors.answer({"phase2": {"a": one}}, base, paradigm="semb", seed=0)
    schemas_hold(tables, vectors.TABLES)
    assert {row["domain"] for row in tables["norms"].to_dicts()} == {"a"}
    assert len(tables["norms"].filter(tables["norms"]["part"] == "whole")) == 1
    assert tables["pairs"].height == 0


def test_an_unreadable_checkpoint_is_reported(tmp_path: Path, base: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MergeError, match="empty"):
        vectors.answer({"phase2": {"a": tmp_path / "empty"}}, base, paradigm="semb", seed=0)
