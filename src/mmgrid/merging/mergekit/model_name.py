"""Models as a mergekit file names them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.ignored import ignore


@dataclass(frozen=True)
class ModelName:
    """A model as named in the file: a folder or a name on the hub, with an optional revision and LoRA adapter.

    The adapter may have a revision, too: `ORG/NAME@REVISION`.
    """

    path: str
    revision: str | None = None
    adapter: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return self.path + revision + (f"+{self.adapter}" if self.adapter else "")


def model_name(value: Any, where: str, ignored: list[str] | None = None) -> ModelName:
    """Reads a model from `path[@revision][+adapter]`, or from the mapping that mergekit writes.

    Args:
        where: the file and the place in it, for errors.
        ignored: gets what mergekit does not read.

    Raises:
        MergeError: it is no model.
    """
    adapter, notes = None, [] if ignored is None else ignored
    for each, known in _parts(value):
        ignore(each, known, where.rpartition(": ")[2], notes)
    if isinstance(value, Mapping) and "model" in value:
        if value.get("override_architecture") is not None:
            raise MergeError(
                f"{where}: override_architecture is not supported: tensors are matched by name; leave it out"
            )
        value, adapter = value["model"], value.get("lora")
    elif isinstance(value, str) and "+" in value:
        value, _, adapter = value.partition("+")
    if isinstance(adapter, Mapping):
        at = f"@{adapter['revision']}" if adapter.get("revision") else ""
        adapter = f"{adapter.get('path') or ''}{at}"
    if isinstance(value, Mapping):
        path, revision = value.get("path"), value.get("revision")
    else:
        path, _, revision = str(value).partition("@")
    if not path or "+" in str(adapter) or "@" in str(revision):
        raise MergeError(f"{where}: {value!r} is not a model; give a folder or a name on the hub")
    if adapter is not None and (
        not isinstance(adapter, str) or not adapter.partition("@")[0] or adapter.count("@") > 1
    ):
        raise MergeError(f"{where}: {adapter!r} is not an adapter; give a folder or a name on the hub")
    return ModelName(str(path), str(revision) if revision else None, adapter)


def _parts(value: Any) -> Iterator[tuple[Mapping[str, Any], Sequence[str]]]:
    """The mappings of the long form, each with the keys that mergekit reads."""
    if not isinstance(value, Mapping):
        return
    if "model" not in value:
        yield value, ("path", "revision")
        return
    yield value, ("model", "lora", "override_architecture")
    yield from ((value[key], ("path", "revision")) for key in ("model", "lora") if isinstance(value.get(key), Mapping))
