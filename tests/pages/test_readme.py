"""README's figures are those of a recorded run of today's demo; the demo itself is not run here."""

import importlib.util
import json
from types import ModuleType

import pytest

from pages.blocks import ROOT


@pytest.fixture(scope="module")
def demo_run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_run", ROOT / "docs/demo_run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recorded_run_is_one_of_todays_demo(demo_run: ModuleType) -> None:
    recorded = json.loads(demo_run.RECORD.read_text())
    assert set(recorded["cells"]) == set(demo_run.STUDIES)
    assert recorded["cells"] == demo_run.fingerprints(), "run `make readme`"
    pairs = [(row["domain"], row["partner"]) for row in recorded["merges"]]
    assert len(set(pairs)) == len(pairs) == 6  # one metric


def test_readme_shows_the_recorded_run(demo_run: ModuleType) -> None:
    recorded, readme = json.loads(demo_run.RECORD.read_text()), demo_run.README.read_text()
    assert demo_run.written(readme, recorded) == readme, "run `make readme`"
    changed = {**recorded, "temporal": [row | {"best": 9.87} for row in recorded["temporal"]]}
    assert "9.87" in demo_run.written(readme, changed)
