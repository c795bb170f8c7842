"""Names of a package that are imported when they are asked for, so that its import costs little."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def later(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
        package: its `__name__`.
        modules: name → module below the package that defines it.

    Raises:
        ValueError: a name is also that of a module. Python sets the package's attribute to a module that is imported,
            whoever imports it, and then never asks for the name.
    """
    if shadowed := sorted(modules.keys() & {module.partition(".")[0] for module in modules.values()}):
        raise ValueError(f"{package}: {', '.join(shadowed)} is a module, too; give the module another name")

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
