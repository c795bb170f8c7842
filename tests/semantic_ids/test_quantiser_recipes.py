"""Recipes of quantisers, which import neither torch nor scikit-learn, since every grid file is read with them."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from kits.small import child_environment
from mmgrid.semantic_ids.recipes import QuantiserRecipe, ResidualKMeansRecipe, RqVaeRecipe

RECIPE: TypeAdapter[QuantiserRecipe] = TypeAdapter(QuantiserRecipe)


def test_the_kind_selects_the_recipe() -> None:
    assert isinstance(RECIPE.validate_python({"kind": "rqvae", "hidden": [64, 32]}), RqVaeRecipe)
    kmeans = RECIPE.validate_python({"kind": "residual_kmeans"})
    assert (kmeans.levels, kmeans.codes) == (4, 256)
    for recipe in (kmeans, RqVaeRecipe()):
        assert RECIPE.validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "kmeans"}, "residual_kmeans"),
        ({}, "kind"),
        ({"kind": "rqvae", "iterations": 3}, "iterations"),
        ({"kind": "rqvae", "hidden": [0]}, "hidden"),
        ({"kind": "residual_kmeans", "codes": 1}, "codes"),
        ({"kind": "rqvae", "levels": 8}, "take fewer levels or fewer codes"),
    ],
)
def test_wrong_values_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RECIPE.validate_python(values)
    assert ResidualKMeansRecipe(levels=7).levels == 7, "the most that fits"


def test_reading_recipes_imports_nothing_heavy() -> None:
    code = (
        "import sys; import mmgrid.semantic_ids.recipes; "
        "print(*sorted({'torch', 'sklearn', 'transformers'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
