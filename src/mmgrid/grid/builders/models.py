"""The model that an evaluation ranks with: a checkpoint, a merge or a domain of a family in memory, or a point on a line.

The line of a sweep is read once and cached; the live model then moves from point to point (see `Cell.family`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmgrid.backbone.device import device
from mmgrid.grid.builders.learned import with_learned
from mmgrid.grid.builders.merge import merged_weights, named, neutral_base
from mmgrid.grid.builders.merge_rules import OWN
from mmgrid.grid.cells.fingerprint import canonical
from mmgrid.grid.cells.study_cells import BETWEEN_PHASES
from mmgrid.merging import BlockTable, Line, MergeError
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.paradigms.contract import Paradigm
from mmgrid.studies.contract import NEUTRAL, PartScales
from mmgrid.studies.model_parts import parts_by_tensor

Weights = Mapping[str, Tensor]
Folders = Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class _Walk:
    """A paradigm, and the line along which its live model moves."""

    key: tuple[Any, ...]
    paradigm: Paradigm
    line: Line


_kept: list[_Walk] = []  # at most one, since models are large


def evaluated_model(recipe: Mapping[str, Any], folders: Folders) -> tuple[Paradigm, nn.Module]:
    """The paradigm and model of an evaluation's recipe, on the device of the evaluation.

    folders: role → folder of the upstream cell. A merge of several domains is evaluated with the prompts and codes of
    the recipe's domain.
    """
    if "line" in recipe:
        walk, at = _walk(recipe, folders), recipe["line"]["at"]
        return walk.paradigm, _in_parts(walk.line, at) if isinstance(at, PartScales) else walk.line.at(at)
    _kept.clear()
    if "family" in recipe:
        name, member = recipe["paradigm"], recipe["family"]["member"]
        paradigm, model = load_checkpoint(folders["model"], name, recipe.get("asked"), member)
        return paradigm, model.to(device())
    if "model" in folders:
        paradigm, model = _loaded(recipe, folders["model"])
        return paradigm, model.to(device())
    merge, sources = with_learned(recipe["merge"], folders), named(folders, "source")
    keep = _source_of(recipe["domain"], merge, sources)
    paradigm, model = _loaded(recipe, sources[keep] if keep else folders[OWN])
    _set_weights(model, merged_weights(merge, sources, folders.get("base"), keep=keep, folders=folders))
    return paradigm, model.to(device())


def _source_of(domain: str, merge: Mapping[str, Any], sources: Folders) -> str:
    """The source whose codes the domain is served with; empty if none is a model of the domain.

    The one that the merge names, the one of the domain's name, else the first whose path contains the domain.
    """
    told = merge.get("token_rows")
    if told in sources:
        return str(told)
    if domain in sources:
        return domain
    return next((name for name, folder in sources.items() if domain in folder.parts), "")


def _loaded(recipe: Mapping[str, Any], folder: Path) -> tuple[Paradigm, nn.Module]:
    """A checkpoint, and its paradigm with the evaluation values of the recipe."""
    name = recipe["paradigm"]
    # Name the domain only for a merge with codes of several domains: an external checkpoint may use another name.
    several = len(_layout(folder)) > 2  # the backbone's rows and those of more than one domain
    return load_checkpoint(folder, name, recipe.get("asked"), recipe["domain"] if several else None)


def _layout(folder: Path) -> list[tuple[str, int, int]]:
    """The blocks of a model's token rows: name, start, stop."""
    table = BlockTable.read(folder)
    return [] if table is None else [(block.name, block.start, block.stop) for block in table.blocks]


def _walk(recipe: Mapping[str, Any], folders: Folders) -> _Walk:
    line = {name: value for name, value in recipe["line"].items() if name != "at"}
    models = {role: folder for role, folder in sorted(folders.items()) if _is_model(role)}
    # Without domain-specific token rows, both domains use the same line.
    own_rows = recipe["domain"] if PARADIGMS[recipe["paradigm"]].own_token_rows else None
    key = (canonical(line), canonical(recipe.get("asked", {})), own_rows, *models.items())
    if not _kept or _kept[0].key != key:
        _kept.clear()  # free memory before the next line is read
        if line["kind"] == BETWEEN_PHASES:
            found = line_between_phases(folders["start"], folders["end"], recipe["paradigm"], recipe.get("asked"))
        else:
            found = _line_over_base(recipe, folders)
        _kept.append(_Walk(key, *found))
    return _kept[0]


def _in_parts(line: Line, at: PartScales) -> nn.Module:
    """The live model of a line, with a λ for each of its parts."""
    parts = parts_by_tensor(line.names, at.per)
    return line.at_each({name: at.scales[part] for name, part in parts.items()})


def _is_model(role: str) -> bool:
    return role != "corpus" and not role.startswith("asks:")


def line_between_phases(
    start: Path, end: Path, paradigm: str, values: Mapping[str, Any] | None = None
) -> tuple[Paradigm, Line]:
    """Θ(t1) + λ (Θ(t2) − Θ(t1)), eq. 10, between the checkpoints in two folders; `values` as for `load_checkpoint`.

    Raises:
        MergeError: their token rows belong to different codebooks.
    """
    if _layout(start) != _layout(end):
        raise MergeError(f"{start} and {end}: their token rows belong to different codebooks")
    loaded, model = load_checkpoint(start, paradigm, values)
    _, newest = load_checkpoint(end, paradigm)
    return loaded, _line(model, newest.state_dict())


def _line_over_base(recipe: Mapping[str, Any], folders: Folders) -> tuple[Paradigm, Line]:
    """Θ⁽⁰⁾′ + α TRIM(τ′ᵢ) + (1 − α) TRIM(τ′ⱼ), eq. 7: linear in α, since the weights are outside of the trim."""
    line, domain, sources, bases = recipe["line"], recipe["domain"], named(folders, "source"), named(folders, "base")
    paradigm, model = _loaded(recipe, sources[domain])
    if line["base"] == NEUTRAL:
        base: Path | Weights = neutral_base(bases)
    else:
        base = next(iter(bases.values())) if bases else folders["base"]

    def end(first: float) -> Weights:
        weights = {line["first"]: first, line["second"]: 1 - first}
        return merged_weights({**line, "weights": weights}, sources, base, keep=domain)

    _set_weights(model, end(0.0))
    return paradigm, _line(model, end(1.0))


def _set_weights(model: nn.Module, weights: Weights) -> None:
    """Load merged weights into a model; a head tied to the embeddings has no weights of its own and follows them."""
    absent, unknown = model.load_state_dict(weights, strict=False)
    state = model.state_dict()
    loaded = {tensor.data_ptr() for name, tensor in state.items() if name in weights}
    untied = [name for name in absent if state[name].data_ptr() not in loaded]
    if untied or unknown:
        raise MergeError(f"merged weights do not fit the model: unexpected are {unknown}, missing are {untied}")


def _line(model: nn.Module, end: Weights) -> Line:
    """The line from the live model to the weights `end`."""
    model.to(device())
    start = model.state_dict()
    steps = {
        name: end[name].to(tensor.device).float() - tensor.float()
        for name, tensor in start.items()
        if name in end and tensor.is_floating_point()
    }
    return Line(model, steps)
