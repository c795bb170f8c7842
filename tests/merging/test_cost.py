"""The cost of a merge: the plan before it, which leaves nothing behind, and the comparison in the report."""

from pathlib import Path
from typing import Any

import pytest

from kits.tiny_llama import tiny_llama, tiny_llamas
from mmgrid.merging import MergeError, merge
from mmgrid.merging.cost import DiskSpeed, estimate


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tiny_llamas(tmp_path)


def _recipe(models: Path, method: str = "ties", **changes: Any) -> dict[str, Any]:
    sources = [{"name": name, "path": str(models / name)} for name in "ab"]
    base = None if method in ("linear", "slerp") else str(models / "base")
    return {"method": method, "base": base, "sources": sources, "dtype": "bfloat16", **changes}


def test_the_plan_counts_the_bytes_and_tensors_of_the_merge(models: Path) -> None:
    before = sorted(models.rglob("*"))
    found = estimate(_recipe(models), models / "not" / "there" / "out")
    assert sorted(models.rglob("*")) == before
    report = merge(_recipe(models), models / "out")
    assert (found.merged, found.kept, found.dropped) == (len(report.merged), 0, 0)
    assert found.parameters == report.parameters
    assert (found.bytes_read, found.bytes_written) == (report.bytes_read, report.bytes_written)
    assert found.speed is not None
    assert found.bound == pytest.approx(found.bytes_read / found.speed.read + found.bytes_written / found.speed.write)


@pytest.mark.parametrize(
    ("method", "passes"), [("linear", 1), ("task_arithmetic", 1), ("dare", 1), ("ties", 2), ("slerp", 2), ("della", 1)]
)
def test_thresholds_and_angles_add_a_pass(method: str, passes: int, models: Path) -> None:
    found = estimate(_recipe(models, method), measure=False)
    assert found.passes == passes
    assert found.bytes_passed == passes * found.bytes_read
    assert (found.speed, found.bound) == (None, None)


def test_the_extra_pass_of_a_rule_reads_only_its_tensors(models: Path) -> None:
    rules = [{"tensors": "*.mlp.*", "method": "ties"}]
    found = estimate(_recipe(models, "task_arithmetic", rules=rules), measure=False)
    assert found.bytes_passed - found.bytes_read == 3 * 4 * 4 * 3 * 16 * 24  # models, bytes, layers, matrices


def test_memory_depends_on_threads_not_on_model_size(models: Path) -> None:
    one, four = (estimate(_recipe(models), workers=n, measure=False).peak_memory for n in (1, 4))
    assert one < four
    small = estimate(_recipe(models, "linear"), workers=1, measure=False)
    for name in ("base", "a", "b"):
        tiny_llama(models / name, 0, layers=40)
    large = estimate(_recipe(models, "linear"), workers=1, measure=False)
    assert large.bytes_read > 5 * small.bytes_read
    assert large.peak_memory == small.peak_memory


def test_sources_with_the_same_folder_name_can_be_planned(models: Path) -> None:
    (models / "other").mkdir()
    (models / "b").rename(models / "other" / "a")
    sources = [{"path": str(models / "a")}, {"path": str(models / "other" / "a")}]
    assert estimate({"method": "linear", "sources": sources}, measure=False).merged == 39


def test_planning_refuses_what_merging_refuses(models: Path) -> None:
    with pytest.raises(MergeError, match="needs a base"):
        estimate(_recipe(models, base=None))


def test_the_report_compares_with_the_bound(models: Path) -> None:
    report = merge(_recipe(models), models / "out", measure=True)
    assert report.bound is not None
    assert report.fraction_of_bound == pytest.approx(report.bound / report.seconds)
    assert merge(_recipe(models), models / "again").fraction_of_bound is None
    assert sorted(path.name for path in models.iterdir()) == ["a", "again", "b", "base", "out"]


def test_the_bound_is_one_read_and_one_write() -> None:
    assert DiskSpeed(read=200.0, write=50.0).bound(400, 100) == 4.0
