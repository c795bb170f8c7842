"""Takes out of a family's shared model what every domain stores for itself, such as a tower with the part `own`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from mmgrid.families.models import write_tensors
from mmgrid.merging.models.family.file import DomainEntry
from mmgrid.merging.models.quantised import open_model
from mmgrid.merging.models.view import SourceView
from mmgrid.merging.models.weight_files import INDEX_FILE, WEIGHTS_FILE

_REFER = ("shared", "delta", "mask", "low_rank")


def unused_tensors(domains: Iterable[DomainEntry]) -> set[str]:
    """The tensors that the recipe gives the part `own`, and that no domain takes from the shared model."""
    domains = list(domains)
    own = {name for domain in domains for name, each in domain.tensors.items() if domain.parts[each.part].kind == "own"}
    return own - _used(domains)


def _used(domains: Iterable[DomainEntry]) -> set[str]:
    """The shared model's tensors that domains are read with."""
    found: set[str] = set()
    for domain in domains:
        rows = domain.tokens.tensors if domain.tokens is not None else ()
        for name, each in domain.tensors.items():
            if each.kind in _REFER or each.difference or name in rows:
                found.add(each.like or name)
    return found


def take_out(unused: Collection[str], folder: Path, workers: int) -> bool:
    """Take tensors out of the weights of a plain checkpoint; returns whether it had any.

    A model of which nothing would be left stays whole.
    """
    with open_model(folder) as model:
        left = [name for name in model if name not in unused]
        if not left or len(left) == len(model):
            return False
        written = folder / f"left-{WEIGHTS_FILE}"
        write_tensors(SourceView(model, hidden=unused), written, workers)
        before = list(model.files)
    for file in (*before, folder / INDEX_FILE):
        file.unlink(missing_ok=True)
    written.rename(folder / WEIGHTS_FILE)
    return True
