"""Merge methods of other libraries, to compare with. None of their code is copied here.

Single modules of peft and fusion-bench are imported without their packages' imports, which take seconds to half a
minute each; those of fusion-bench also need libraries that are irrelevant to merging (lightning, hydra, tensorboard).
"""

import contextlib
import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest


@cache
def peft_merging() -> ModuleType:
    """`peft.utils.merge_utils`; skips the test if peft is not installed."""
    spec = importlib.util.spec_from_file_location(
        "_peft_merge_utils", _package("peft", "pip install peft") / "utils" / "merge_utils.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def fusion_bench(name: str) -> ModuleType:
    """A module of fusion-bench, such as `method.ties_merging.ties_merging_utils`; skips if it is not installed."""
    site = _package("fusion_bench", "pip install --no-deps fusion-bench (make setup does)").parent
    helpers = _bare("fusion_bench.utils", site)
    if "timeit_context" not in vars(helpers):  # the names that its modules import from the package `utils`
        helpers.timeit_context = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]
        vectors = importlib.import_module("fusion_bench.utils.parameters")
        for helper in ("state_dict_to_vector", "vector_to_state_dict"):
            setattr(helpers, helper, getattr(vectors, helper))
    _bare(f"fusion_bench.{name}".rpartition(".")[0], site)
    return importlib.import_module(f"fusion_bench.{name}")


@cache
def _package(name: str, remedy: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs {name} for comparison: {remedy}")
    return Path(next(iter(spec.submodule_search_locations)))


def _bare(name: str, site: Path) -> ModuleType:
    """A package and its parents, without running their `__init__`."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        package = ".".join(parts[:depth])
        if package not in sys.modules:
            module = ModuleType(package)
            module.__path__ = [str(site.joinpath(*parts[:depth]))]
            sys.modules[package] = module
    return sys.modules[name]
