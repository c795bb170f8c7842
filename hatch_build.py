"""Builds the native loops of merging for a wheel, or for an editable installation, where there is a C compiler.

Without one the wheel is pure Python, and merging uses numpy, which gives the same bits. `MMGRID_KERNELS=off` builds
none; `MMGRID_KERNELS=on` makes it an error that they cannot be built.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUILDING = "src/mmgrid/merging/kernels/building.py"


class NativeLoops(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("MMGRID_KERNELS", "")
        if wanted == "off":
            return
        building = _building(Path(self.root))
        try:
            if os.environ.get("ARCHFLAGS") or not building.is_current():
                building.build()
        except building.CannotBuild as error:
            if wanted == "on":
                raise
            self.app.display_warning(f"merging will use numpy, without native loops: {error}")
            return
        *_, platform = self.build_config.builder.get_best_matching_tag().split("-")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"  # no Python headers: one wheel for every version
        build_data["artifacts"].append(building.LIBRARY.relative_to(self.root).as_posix())


def _building(root: Path) -> Any:
    """The module that builds, from its file: the package is not installed yet, and would import what is not there."""
    spec = importlib.util.spec_from_file_location("mmgrid_building", root / _BUILDING)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
