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


@pytest.mark.parametrize(
    ("early", "verdict"),
    [((3.0, 3.0), "reproduced"), ((1.0, 1.0), "not reproduced"), ((3.0, 1.0), "undecided")],
)
def test_the_shift_is_in_pretraining_if_half_of_it_is_in_every_domain(
    tmp_path: Path, base: Path, early: tuple[float, float], verdict: str
) -> None:
    phases = {
        phase: {
            domain: _folder(tmp_path / phase / domain, [step, 0.0, 0.0, 0.0], [0.0, 0.0])
            for domain, step in zip("ab", steps, strict=True)
        }
        for phase, steps in (("pretrain", early), ("phase1", (3.5, 3.5)), ("phase2", (4.0, 4.0)))
    }
    tables = vectors.answer(phases, base, paradigm="semb", seed=1)
    schemas_hold(tables, vectors.TABLES)
    (found,) = tables["findings"].to_dicts()
    assert (found["finding"], found["n"], found["seed"]) == ("shift in pre-training", 2, 1)
    assert (found["value"], found["verdict"]) == (pytest.approx(sum(early) / 8), verdict)


@pytest.mark.parametrize(
    ("lower", "count", "verdict"),
    [
        ({"a": 0.1, "b": 0.1}, 2, "reproduced"),
        ({"a": 9.0, "b": 9.0}, 0, "not reproduced"),
        ({"a": 0.1, "b": 9.0}, 1, "undecided"),
        ({"a": 0.1}, 1, "undecided"),  # one domain is no evidence
        ({}, None, None),
    ],
)
def test_the_order_of_norms_counts_domains(
    tmp_path: Path, base: Path, lower: dict[str, float], count: int | None, verdict: str | None
) -> None:
    folders = {name: _folder(tmp_path / name, [3.0, 0.0, 0.0, 0.0], [0.0, 0.0]) for name in "ab"}
    tables = vectors.answer({"phase2": folders}, base, paradigm="semb", seed=0, lower=lower)
    found = [(row["finding"], row["value"], row["verdict"]) for row in tables["findings"].to_dicts()]
    assert found == ([] if count is None else [("order of norms", count, verdict)])
