"""Plug-ins are found by the entry points of installed packages, and imported when they are first used."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from mmgrid import plugins
from mmgrid.merging import METHODS, MergeError, get_method, merge_state_dicts
from mmgrid.plugins import PluginError, Plugins, UnknownPluginError

GROUP = "mmgrid.colours"
Install = Callable[..., None]


def is_text(name: str, plugin: object) -> None:
    if not isinstance(plugin, str):
        raise TypeError(f"a colour is a text, not {type(plugin).__name__}")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package: a module `NAME_colours` with this code, and these entry points (name → attribute)."""
    monkeypatch.syspath_prepend(tmp_path)

    def package(name: str, code: str, group: str = GROUP, **colours: str) -> None:
        (tmp_path / f"{name}_colours.py").write_text(code)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{colour} = {name}_colours:{attribute}" for colour, attribute in colours.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")

    return package


def test_names_are_known_before_anything_is_imported(install: Install) -> None:
    install("lazy", "raise SystemExit('imported')", red="RED")
    assert list(Plugins(GROUP, "colour", is_text)) == ["red"]
    assert "lazy_colours" not in sys.modules


def test_the_built_in_ones_come_first_and_the_others_by_name(install: Install) -> None:
    install("rainbow", "a = b = c = 'x'", red="a", blue="b", white="c")
    found = Plugins(GROUP, "colour", is_text, first=("white", "absent", "red"))
    assert list(found) == ["white", "red", "blue"]
    assert len(found) == 3
    assert found["blue"] == "x"
    assert dict(found) == {"white": "x", "red": "x", "blue": "x"}


def test_a_plug_in_is_loaded_once(install: Install) -> None:
    install("counted", "import itertools\ntimes = itertools.count()\nred = 'red'", red="red")
    checked = []
    found = Plugins(GROUP, "colour", lambda name, _plugin: checked.append(name))
    assert found["red"] is found["red"]
    assert checked == ["red"]


def test_an_unknown_name_lists_the_known_ones(install: Install) -> None:
    install("three", "a = 'x'", red="a", blue="a")
    found = Plugins(GROUP, "colour", is_text)
    with pytest.raises(UnknownPluginError, match=r"unknown colour 'bleu'; did you mean blue\? known are blue, red"):
        found["bleu"]
    with pytest.raises(UnknownPluginError, match=r"unknown colour 'zzz'; known are blue, red"):
        found["zzz"]
    assert "bleu" not in found
    assert found.get("bleu") is None


def test_two_packages_with_one_name(install: Install) -> None:
    install("one", "a = 'x'", red="a")
    install("two", "a = 'x'", red="a")
    with pytest.raises(PluginError, match=r"two packages, (one and two|two and one), have a colour called 'red'"):
        list(Plugins(GROUP, "colour", is_text))


def test_an_empty_group_says_that_nothing_is_installed() -> None:
    with pytest.raises(PluginError, match="no colour is installed"):
        len(Plugins("mmgrid.nothing", "colour", is_text))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("red = 3", "TypeError: a colour is a text, not int"),
        ("blue = 'x'", "AttributeError"),
    ],
)
def test_a_broken_plug_in_names_its_package(install: Install, code: str, says: str) -> None:
    install("broken", code, red="red")
    with pytest.raises(PluginError, match=rf"the colour 'red' of broken \(broken_colours:red\) cannot be used: {says}"):
        Plugins(GROUP, "colour", is_text)["red"]
    sys.modules.pop("broken_colours", None)


def test_errors_of_built_in_ones_are_raised_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ours:
        name = "mmgrid"

    entry = EntryPoint("red", "math:pi", GROUP)
    object.__setattr__(entry, "dist", Ours())
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints([entry]))
    with pytest.raises(TypeError, match="a colour is a text, not float"):
        Plugins(GROUP, "colour", is_text)["red"]


def test_refresh_finds_what_was_installed_meanwhile(install: Install) -> None:
    install("early", "a = 'x'", red="a")
    found = Plugins(GROUP, "colour", is_text)
    assert list(found) == ["red"]
    install("late", "a = 'x'", blue="a")
    assert list(found) == ["red"]
    found.refresh()
    assert list(found) == ["blue", "red"]


METHOD = """
from mmgrid.merging.methods import merge_method

@merge_method(needs="element", returns="weights", base="none")
def smallest(tensors, weights):
    '''θ = min θᵢ, element by element.'''
    import numpy as np
    return np.minimum.reduce(tensors)
"""


def test_a_merge_method_of_another_package(install: Install) -> None:
    import torch

    install("others", METHOD, group="mmgrid.merge_methods", smallest="smallest", renamed="smallest")
    METHODS.refresh()
    try:
        merged = merge_state_dicts("smallest", [{"w": torch.tensor([1.0, 4.0])}, {"w": torch.tensor([3.0, 2.0])}])
        assert merged["w"].tolist() == [1.0, 2.0]
        assert list(METHODS)[-2:] == ["renamed", "smallest"], "behind the built-in ones"
        with pytest.raises(PluginError, match=r"renamed.* of others .* is called 'renamed', its function 'smallest'"):
            get_method("renamed")
    finally:
        sys.modules.pop("others_colours", None)
        METHODS.refresh()


def test_unknown_merge_methods_stay_merge_errors() -> None:
    with pytest.raises(MergeError, match="unknown merge method 'smallest'"):
        get_method("smallest")


def test_plug_ins_of_other_packages_are_listed_without_an_import(install: Install) -> None:
    assert not [line for line in plugins.of_other_packages() if "linear" in line]
    install("lazy", "raise SystemExit('imported')", group="mmgrid.paradigms", red="RED")
    assert "paradigm red, of lazy 1.0" in plugins.of_other_packages()
    assert "lazy_colours" not in sys.modules
