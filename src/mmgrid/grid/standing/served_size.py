"""How many bytes serve the domains of a merge or a family, from what the store holds.

A merge that is the same for all of its domains is one model; tensors that are each domain's own, and merges that differ by
domain, count for every domain. A family is its shared model, and the parts of the domains.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmgrid.grid.builders.merge_rules import OWN, patterns_of
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.chains import is_joint
from mmgrid.grid.cells.families import CHAIN
from mmgrid.grid.cells.fingerprint import canonical
from mmgrid.grid.file.merges import BACKBONE
from mmgrid.merging import BlockTable, MergeError
from mmgrid.merging.models.sources import open_source
from mmgrid.patterns import fits
from mmgrid.store import Record, Store
from mmgrid.studies.kept_tables import JOINT, MERGES, ONE_MERGE, VARIANT, ServedSize

_SOURCE, _OF_A_MERGE = "source:", ("source", "base", "learned")
_Piece = tuple[str, ...]


def served_size(evaluations: Sequence[Cell], records: Mapping[Cell, Record], store: Store) -> ServedSize | None:
    """The size of all that serves the domains of these evaluations, which are of one merge, family or other training.

    None if it cannot be read: a cell is not built, or damaged.
    """
    try:
        if "family" in evaluations[0].recipe:
            return _of_family(evaluations, records)
        if "merge" in evaluations[0].recipe:
            return _of_merge(evaluations, store)
        return _of_trainings(evaluations, store)
    except (KeyError, OSError, MergeError):
        return None


def _of_family(evaluations: Sequence[Cell], records: Mapping[Cell, Record]) -> ServedSize:
    size, plain, parameters = 0, 0, []
    whole = {cell.upstream["model"]: records[cell.upstream["model"]].summary for cell in evaluations}
    for stored, found in whole.items():
        members: Any = found["members"]
        asked = {cell.recipe["family"]["member"] for cell in evaluations if cell.upstream["model"] == stored}
        needed = members if stored.recipe["shared"] == CHAIN else asked  # a phase is put together from all before
        size += int(found["shared_bytes"]) + sum(members[name]["bytes"] for name in needed)  # type: ignore[arg-type]
        plain += sum(members[name]["plain_bytes"] for name in asked)
        parameters += [members[name]["parameters"] for name in asked]
    way = way_of_family(evaluations[0].upstream["model"].recipe)
    return ServedSize(way, size, plain, sum(parameters) / len(parameters))


def way_of_family(recipe: Mapping[str, Any]) -> str:
    """The kinds of parts in a family's recipe, and what they are parts of: `shared + own`, `delta over backbone`."""
    parts = recipe["parts"]
    kinds = " + ".join(dict.fromkeys([parts["part"]["kind"], *(rule["part"]["kind"] for rule in parts["rules"])]))
    upon = {CHAIN: " along a chain", BACKBONE: " over backbone"}
    return kinds + upon.get(recipe["shared"], "")


def _of_trainings(evaluations: Sequence[Cell], store: Store) -> ServedSize:
    """Of a joint training, which is one model, or of variants, one for each domain."""
    models = [cell.upstream["model"] for cell in evaluations]
    sizes = {model: _sizes(store.folder(model.address)) for model in models}
    size = {model: sum(size for size, _, _ in found.values()) for model, found in sizes.items()}
    parameters = sum(elements for model in models for _, elements, _ in sizes[model].values())
    plain = sum(size[model] for model in models)
    return ServedSize(
        JOINT if is_joint(models[0]) else VARIANT, sum(size.values()), plain, parameters / len(evaluations)
    )


def _of_merge(evaluations: Sequence[Cell], store: Store) -> ServedSize:
    pieces: dict[_Piece, int] = {}
    plain, parameters, alike = 0, 0, set[str]()
    own = any(rule.get("own") for rule in evaluations[0].recipe["merge"].get("rules", ()))
    for cell in evaluations:
        like = store.folder(_like(cell).address)
        sizes = _sizes(like)
        plain += sum(size for size, _, _ in sizes.values())
        parameters += sum(elements for _, elements, _ in sizes.values())
        merged = _identity(cell)
        alike.add(merged)
        pieces |= dict(_pieces(cell, merged, sizes, BlockTable.read(like)))
    way = ONE_MERGE if len(alike) == 1 and not own else MERGES
    return ServedSize(way, sum(pieces.values()), plain, parameters / len(evaluations))


def _like(cell: Cell) -> Cell:
    """A model of the evaluated domain, whose tensors the merge has."""
    sources = {role.removeprefix(_SOURCE): one for role, one in cell.upstream.items() if role.startswith(_SOURCE)}
    domain = cell.recipe["domain"]
    of_domain = [one for one in sources.values() if one.key[1] == domain]
    return sources.get(domain) or cell.upstream.get(OWN) or [*of_domain, *sources.values()][0]


def _identity(cell: Cell) -> str:
    """What the merged tensors are made from; the rows for a domain's codes are no merged ones."""
    merge = {key: value for key, value in cell.recipe["merge"].items() if key != "token_rows"}
    models = {role: one.fingerprint for role, one in cell.upstream.items() if role.partition(":")[0] in _OF_A_MERGE}
    return canonical({"merge": merge, "models": models})


def _pieces(
    cell: Cell, merged: str, sizes: Mapping[str, tuple[int, int, int]], blocks: BlockTable | None
) -> Iterator[tuple[_Piece, int]]:
    """What a merge as it serves a domain consists of, with bytes; what several domains share has the same name."""
    own = _own_tensors(cell.recipe["merge"], list(sizes))
    for name, (size, _, rows) in sizes.items():
        if name in own:
            yield (name, cell.recipe["domain"]), size
        elif blocks is None or name not in blocks.tensors:
            yield (name, merged), size
        else:
            for block in blocks.blocks:
                yield (name, block.name, merged if block.name == BACKBONE else ""), size * block.size // rows


def _own_tensors(merge: Mapping[str, Any], names: Sequence[str]) -> set[str]:
    """The tensors that are the served domain's own: those of which the first rule that fits says so."""
    found, left = set[str](), set(names)
    for rule in merge.get("rules", ()):
        patterns = patterns_of(rule, names)
        fitting = {name for name in left if fits(name, patterns)}
        found |= fitting if rule.get("own") else set()
        left -= fitting
    return found


@lru_cache(maxsize=256)
def _sizes(folder: Path) -> Mapping[str, tuple[int, int, int]]:
    """Tensor of a checkpoint → its bytes, elements and rows. Folders of a store never change."""
    with open_source(folder) as model:
        infos = {name: model.info(name) for name in model}
    return {name: (info.bytes, info.size, info.shape[0] if info.shape else 1) for name, info in infos.items()}
