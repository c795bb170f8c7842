"""Teaches the Auto classes of Transformers the architectures of the paradigms, without importing Transformers.

A spec names a model type and a module that registers it (`ParadigmSpec.auto_classes`). `import mmgrid` imports none of
these modules. It only prepares `AutoConfig`, which every Auto class asks for the type of a folder: the first call of
`AutoConfig.from_pretrained` or `AutoConfig.for_model` imports them, and afterwards both functions are the original ones
again. If Transformers is not imported yet, a finder on `sys.meta_path` waits for the module that defines `AutoConfig`.

Why not register as soon as that module is imported? Because a paradigm's own modules import Transformers: they would be
imported a second time while they are half imported, and fail.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing it from `typing` would take longer than all else here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

AUTO_CONFIG = "transformers.models.auto.configuration_auto"
ENTRANCES = ("from_pretrained", "for_model")


def install() -> None:
    """Prepare `AutoConfig` now if it is imported, else when it is. Calling this again changes nothing."""
    for finder in sys.meta_path[:]:
        if (type(finder).__module__, type(finder).__name__) == (__name__, AutoConfigFinder.__name__):
            sys.meta_path.remove(finder)  # left by an earlier import of this module
    sys.meta_path.insert(0, AutoConfigFinder())
    if AUTO_CONFIG in sys.modules:
        prepare(sys.modules[AUTO_CONFIG])


def prepare(module: ModuleType) -> None:
    """Make the first use of the module's `AutoConfig` register the paradigms; does nothing if it lacks one."""
    auto_config = getattr(module, "AutoConfig", None)
    found = {name: vars(auto_config).get(name) for name in ENTRANCES} if auto_config else {}
    originals = {name: function for name, function in found.items() if isinstance(function, classmethod)}
    if any(_registers(function) for function in originals.values()):
        return  # prepared by an earlier import of this module
    for name in originals:
        setattr(auto_config, name, classmethod(_registering(auto_config, name, originals)))


def register() -> None:
    """Import the module of every paradigm that registers an architecture.

    A module that cannot be imported is logged as a warning, and its model type stays unknown.
    """
    from importlib import import_module
    from logging import getLogger

    logger = getLogger(__name__)
    try:
        from mmgrid.paradigms.registry import PARADIGMS

        specs = list(PARADIGMS.working().values())
    except Exception as error:  # such as an app that was frozen without the packages' entry points
        logger.warning("no paradigm is registered with the Auto classes of Transformers: %s", error)
        return
    for spec in specs:
        try:
            if spec.auto_classes:
                import_module(spec.auto_classes)
        except Exception as error:
            logger.warning(
                "the paradigm %r is not registered with the Auto classes of Transformers: %s cannot be imported (%s: %s)",
                spec.name,
                spec.auto_classes,
                type(error).__name__,
                error,
            )


def _registering(auto_config: Any, name: str, originals: dict[str, classmethod]) -> Any:
    """The function of this name, which first registers the paradigms and puts the original functions back."""
    from functools import wraps

    @wraps(originals[name].__func__)
    def entrance(cls: Any, *args: Any, **options: Any) -> Any:
        register()
        for each, original in originals.items():
            if _registers(vars(auto_config).get(each)):
                setattr(auto_config, each, original)
        return originals[name].__get__(None, cls)(*args, **options)

    entrance.registers_paradigms = True  # type: ignore[attr-defined]
    return entrance


def _registers(function: Any) -> bool:
    return hasattr(getattr(function, "__func__", None), "registers_paradigms")


class AutoConfigFinder:
    """Finds the module of `AutoConfig` as the other finders do, and prepares it once it is loaded."""

    def __init__(self) -> None:
        self._searching = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != AUTO_CONFIG or self._searching:  # a finder of the same kind may ask this one in turn
            return None
        self._searching = True
        try:
            for finder in sys.meta_path:
                find = getattr(finder, "find_spec", None)
                spec = find(fullname, path, target) if find else None
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = AutoConfigLoader(spec.loader)  # type: ignore[assignment]
                    return spec
        finally:
            self._searching = False
        return None


class AutoConfigLoader:
    """Loads the module by its own loader, then prepares it; the module keeps no trace of this one."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        prepare(module)
