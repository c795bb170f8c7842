"""Other people's merge methods, to be compared with. Nothing of them is copied here.

peft and fusion-bench are read file by file, without their packages' own imports: those take seconds to half a minute
each, and fusion-bench's want libraries (lightning, hydra, tensorboard) that a merge has nothing to do with.
"""

from __future__ import annotations

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
    """`peft.utils.merge_utils`; skips the test where peft is not installed."""
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
    """A module of fusion-bench, such as `method.ties_merging.ties_merging_utils`; skips where it is not installed."""
    site = _package("fusion_bench", "pip install --no-deps fusion-bench (make setup does)").parent
    helpers = _bare("fusion_bench.utils", site)
    if "timeit_context" not in vars(helpers):  # the names that its modules take from the package of helpers
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
        pytest.skip(f"{name} is not installed, which the result is compared with: {remedy}")
    return Path(next(iter(spec.submodule_search_locations)))


def _bare(name: str, site: Path) -> ModuleType:
    """A package, and those that it is in, without what their `__init__` would do."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        package = ".".join(parts[:depth])
        if package not in sys.modules:
            module = ModuleType(package)
            module.__path__ = [str(site.joinpath(*parts[:depth]))]
            sys.modules[package] = module
    return sys.modules[name]
