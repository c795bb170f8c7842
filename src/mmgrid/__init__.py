"""MMGRid: grids of generative recommenders across domains and time, and what merging them does.

Merging:

- `merge` merges model folders, `merge_state_dicts` models in memory.
- `methods` lists the merge methods, `compare` compares models.

Grids:

- `load_grid` reads a grid file, `run` builds it.
- `results` and `report` show what it has measured; `cell_folder` says where a cell lies.

Recommending:

- `open_checkpoint` opens a checkpoint or a merge, which then recommends and can be evaluated.
- `import_checkpoint` and `export_checkpoint` read and write the layouts of other projects.

The Hugging Face Hub:

- `push` publishes a model, `pull` fetches one. Wherever a model is named, `ORG/NAME[@REVISION]` will do.

Importing the package is cheap: a function imports what it needs when it is first used. Once the package is imported,
the Auto classes of Transformers can load its architectures (see `mmgrid.auto_classes`).
"""

from __future__ import annotations

from mmgrid import auto_classes as _auto_classes

TYPE_CHECKING = False  # importing it from `typing` would take longer than all else here
if TYPE_CHECKING:
    from mmgrid.face import (
        cell_folder,
        export_checkpoint,
        import_checkpoint,
        methods,
        open_checkpoint,
        pull,
        push,
        report,
        results,
        run,
    )
    from mmgrid.grid.file.load import load_grid
    from mmgrid.merging.compare import compare
    from mmgrid.merging.in_memory import merge_state_dicts
    from mmgrid.merging.on_disk import merge

__version__ = "0.1.0"
__all__ = [
    "cell_folder",
    "compare",
    "export_checkpoint",
    "import_checkpoint",
    "load_grid",
    "merge",
    "merge_state_dicts",
    "methods",
    "open_checkpoint",
    "pull",
    "push",
    "report",
    "results",
    "run",
]

_MODULES = {  # of those that are not in `mmgrid.face`
    "compare": "mmgrid.merging.compare",
    "load_grid": "mmgrid.grid.file.load",
    "merge": "mmgrid.merging.on_disk",
    "merge_state_dicts": "mmgrid.merging.in_memory",
}


if not TYPE_CHECKING:  # a type checker takes the names from above, and reports any other

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_MODULES.get(name, "mmgrid.face")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_auto_classes.install()
