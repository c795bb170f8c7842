"""Patterns of names in files of others."""

import pytest
from pydantic import TypeAdapter, ValidationError

from mmgrid.merging import MergeRecipe
from mmgrid.patterns import Pattern, Patterns, fits, listed

# Python reads this in minutes: for each bracket, it looks for its end.
LONG = "[" * 100_000


@pytest.mark.parametrize(("kind", "given"), [(Pattern, LONG), (Patterns, LONG), (Patterns, ["*.mlp.*", LONG])])
def test_what_would_take_minutes_is_refused(kind, given):
    with pytest.raises(ValidationError, match="a pattern of 100,000 letters; at most 1,000 are read"):
        TypeAdapter(kind).validate_python(given)


def test_a_recipe_says_which_one():
    with pytest.raises(ValidationError, match="rules.0.tensors\n"):
        MergeRecipe(method="linear", sources=[{"path": "a"}], rules=[{"tensors": LONG}])
    with pytest.raises(ValidationError, match="blocks"):
        MergeRecipe(method="linear", sources=[{"path": "a"}], blocks={LONG: "merge"})


def test_one_pattern_or_several():
    assert TypeAdapter(Patterns).validate_python("a.*") == "a.*"
    assert TypeAdapter(Patterns).validate_python(["a.*", "b"]) == ("a.*", "b")
    assert fits("a.b", listed("a.*"))
    assert not fits("A.b", listed(("a.*", "b")))
