"""Foreign layouts: checkpoints as the official code of a paradigm saves them, read into and written from ours.

A paradigm's spec declares the layouts that it can read and write, so plug-ins may bring their own. What a layout lacks
and our checkpoints need (such as the length of histories) is an option of the layout, with the official code's default.
An imported checkpoint scores as the official code does; what cannot is refused. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import ValidationError

from mmgrid.files import clear_disk_errors, replacing_folder, write_json
from mmgrid.frozen import Frozen
from mmgrid.paradigms.facts import FACTS_FILE, CheckpointError, facts
from mmgrid.paradigms.registry import PARADIGMS

if TYPE_CHECKING:
    from mmgrid.paradigms.spec import ParadigmSpec


class LayoutError(ValueError):
    """A checkpoint cannot be read from or written in a layout; the message says why."""


class NoOptions(Frozen):
    """The options of a layout without any."""


class Converter(Protocol):
    """What the module or class of a layout implements. Both raise LayoutError for what they do not support."""

    def read(self, source: Path, folder: Path, options: Any) -> Mapping[str, Any]:
        """Write our checkpoint of the foreign one at `source` into `folder`, which is empty.

        Returns the entries of its `mmgrid.json` in addition to the paradigm's name.
        """
        ...

    def write(self, checkpoint: Path, folder: Path, options: Any) -> list[str]:
        """Write the foreign form of our `checkpoint` into `folder`, which is empty.

        Returns one line for each thing that a user of the official code must know.
        """
        ...


@dataclass(frozen=True)
class Layout:
    """One foreign layout.

    Attributes:
        name: on the command line.
        about: one line: whose layout it is.
        converter: the module with `read` and `write` (see `Converter`), or `module:NAME` of an object that has them.
        import_options, export_options: pydantic models; a field's description says what it means.
    """

    name: str
    about: str
    converter: str
    import_options: type[Frozen] = NoOptions
    export_options: type[Frozen] = NoOptions

    def load(self) -> Converter:
        """Import the converter, and with it torch."""
        module, _, name = self.converter.partition(":")
        found = import_module(module)
        return cast(Converter, getattr(found, name) if name else found)


def layouts() -> dict[str, tuple[Layout, ParadigmSpec]]:
    """The layouts of all installed paradigms by name, each with the spec of its paradigm."""
    return {layout.name: (layout, spec) for spec in PARADIGMS.working().values() for layout in spec.layouts}


def layout_named(name: str) -> Layout:
    """The layout with this name. Raises LayoutError if no installed paradigm has it."""
    return _named(name)[0]


def import_checkpoint(
    source: str | Path, out: str | Path, layout: str, options: Mapping[str, Any] | None = None
) -> Path:
    """Make a checkpoint of this project from one in a foreign layout.

    Args:
        source: the foreign checkpoint: a folder, or its file of weights.
        out: the folder to write; must be absent or empty.
        layout: its name, such as "hllm".
        options: what the layout lacks; `mmgrid import --from LAYOUT --options` lists them.

    Returns:
        The folder.

    Raises:
        LayoutError: there is no such layout, an option is wrong, or the checkpoint has something that the paradigm
            lacks, so that it would score differently.
        FileExistsError: `out` is not empty.
    """
    found, spec = _named(layout)
    values = _checked(found.import_options, options or {}, found.name)
    place, target = Path(source).expanduser(), Path(out).expanduser()
    if not place.exists():
        raise LayoutError(f"{source}: does not exist; name the folder or file of the checkpoint")
    with _filling(target) as work:
        entries = found.load().read(place, work, values)
        origin = {"layout": found.name, "options": values.model_dump(mode="json", exclude_none=True)}
        write_json(work / FACTS_FILE, {"paradigm": spec.name, **entries, "imported": origin})
    return target


def export_checkpoint(
    checkpoint: str | Path, out: str | Path, layout: str, options: Mapping[str, Any] | None = None
) -> list[str]:
    """Write a checkpoint of this project in a foreign layout.

    Args:
        checkpoint: its folder.
        out: the folder to write; must be absent or empty.
        layout: its name, such as "hllm".
        options: of the layout.

    Returns:
        What a user of the official code must know, one line each.

    Raises:
        LayoutError: there is no such layout, an option is wrong, or the layout cannot express the checkpoint.
        CheckpointError: the folder is no checkpoint.
        FileExistsError: `out` is not empty.
    """
    found, spec = _named(layout)
    values = _checked(found.export_options, options or {}, found.name)
    place = Path(checkpoint).expanduser()
    if not place.is_dir():
        raise CheckpointError(f"{checkpoint}: no such folder")
    _check_paradigm(place, found, spec)
    with _filling(Path(out).expanduser()) as work:
        return found.load().write(place, work, values)


def described(options: type[Frozen]) -> list[tuple[str, str, str]]:
    """The options of a layout: name, default, meaning."""
    shown = []
    for name, field in options.model_fields.items():
        default = "needed" if field.is_required() else "" if field.default is None else str(field.default)
        shown.append((name, default, field.description or ""))
    return shown


def _named(name: str) -> tuple[Layout, ParadigmSpec]:
    known = layouts()
    if name not in known:
        raise LayoutError(f"{name}: no such layout; the installed paradigms have {', '.join(known) or 'none'}")
    return known[name]


def _checked(model: type[Frozen], options: Mapping[str, Any], layout: str) -> Frozen:
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "options"
        known = ", ".join(model.model_fields) or "none"
        what = f"unknown option of {layout}" if first["type"] == "extra_forbidden" else first["msg"]
        raise LayoutError(f"option {name}: {what}; {layout} has {known}") from None


def _check_paradigm(folder: Path, layout: Layout, spec: ParadigmSpec) -> None:
    from mmgrid.paradigms.checkpoints import declared_spec

    declared = declared_spec(folder)
    if declared is None or declared.name != spec.name:
        what = f"a checkpoint of {declared.name}" if declared else "no checkpoint of a known paradigm"
        raise LayoutError(f"{folder}: is {what}; {layout.name} is a layout of {spec.name}")
    if (folder / FACTS_FILE).is_file() and len(facts(folder).get("blocks", {}).get("rows", [])) > 2:
        raise LayoutError(f"{folder}: keeps token rows of several domains, and {layout.name} has room for one")


@contextmanager
def _filling(final: Path) -> Iterator[Path]:
    """Yields an empty folder to fill, which then becomes `final`; after an error nothing is left."""
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise FileExistsError(f"{final}: exists already and is not empty; name another folder with -o")
    with clear_disk_errors(final):
        final.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(final) as work:
            yield work
