"""The tests of the example plug-ins: each passes the kit of its kind. They need the plug-ins installed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from mmgrid.merging import METHODS
from mmgrid.testing import MergeMethodKit, MethodCase, ParadigmCase, ParadigmKit, StudyCase, StudyKit

GRID = """\
name = "example"

[data]
format = "synthetic"
domains = ["garden"]
synthetic = { users = 80, items = 80, mean_interactions = 10 }

[phases]
pretrain = ["2017-07-01", "2022-07-01"]
phase1   = ["2022-07-01", "2022-10-01"]
phase2   = ["2022-10-01", "2023-01-01"]
test     = ["2023-01-01", "2023-04-01"]

[paradigms.transitions]
epochs = 2

[[studies]]
kind = "phase_merge"
"""


class TestTransitions(ParadigmKit):
    @pytest.fixture
    def case(self) -> ParadigmCase:
        return ParadigmCase.of("transitions", learning_rate=0.05, width=16)


@pytest.fixture(scope="module")
def phase_merge(tmp_path_factory: pytest.TempPathFactory) -> StudyCase:
    return StudyCase.build("phase_merge", GRID, tmp_path_factory.mktemp("phase_merge"))


class TestPhaseMerge(StudyKit):
    @pytest.fixture
    def case(self, phase_merge: StudyCase) -> StudyCase:
        return phase_merge


Arrays = Mapping[str, np.ndarray]


def magmax(
    sources: Mapping[str, Arrays], base: Arrays, weights: Mapping[str, float], options: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The merge of whole models in float64, as the paper's formula has it."""
    merged = {}
    for name, start in base.items():
        changes = np.stack([weights[source] * (sources[source][name] - start) for source in sorted(sources)])
        furthest = np.abs(changes).argmax(axis=0)
        merged[name] = start + np.take_along_axis(changes, furthest[None], axis=0)[0]
    return merged


class TestMagmax(MergeMethodKit):
    @pytest.fixture
    def case(self) -> MethodCase:
        return MethodCase(METHODS["magmax"], magmax, scaled_weights="scale it")
