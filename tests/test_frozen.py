"""A truth value is no number: pydantic would take `true` for 1."""

from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from mmgrid.frozen import Frozen
from mmgrid.grid.file.spec import EvaluationSpec
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods import METHODS
from mmgrid.merging.plan.recipe import MergeRecipe
from mmgrid.training.recipe import TrainingRecipe


class _Sample(Frozen):
    whole: Annotated[int, Field(ge=0)] | None = None
    several: tuple[float, ...] = ()
    each: dict[str, float] = {}
    truth: bool = False
    either: bool | float = False
    anything: Any = None


@pytest.mark.parametrize("values", [{"whole": True}, {"several": [1, True]}, {"each": {"a": False}}])
def test_a_truth_value_is_refused_where_a_number_belongs(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(values))}: should be a number"):
        _Sample(**values)


def test_truth_values_and_numbers_are_taken_where_they_belong() -> None:
    sample = _Sample(whole=1, several=(1, 2.5), each={"a": 1}, truth=True, either=True, anything=[True])
    assert (sample.whole, sample.several, sample.truth, sample.either) == (1, (1, 2.5), True, True)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (TrainingRecipe, {"epochs": 1, "learning_rate": 0.1, "batch_size": True}),
        (EvaluationSpec, {"max_users_of": {"semb": True}}),
        (MergeRecipe, {"method": "linear", "sources": [{"path": "a", "weight": True}]}),
        (MergeRecipe, {"method": "linear", "sources": [{"path": "a"}], "scale": [True, 1]}),
    ],
)
def test_grids_and_recipes_refuse_them(model: type[Frozen], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="should be a number"):
        model.model_validate(values)


def test_options_of_methods_and_stages_refuse_them() -> None:
    with pytest.raises(MergeError, match="density: should be a number"):
        METHODS["ties"].resolve({"density": True})
    with pytest.raises(MergeError, match="drop: should be a number"):
        METHODS["task_arithmetic"].resolve({"stages": [{"drop": {"drop": True}}]})
