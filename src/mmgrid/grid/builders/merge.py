"""`merge/<paradigm>/<recipe>`: merges checkpoints, in memory for an evaluation or on disk to be kept."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgrid.files import move_up
from mmgrid.grid.builders.learned import with_learned
from mmgrid.grid.builders.merge_rules import engine_rules
from mmgrid.grid.cells.planned_merge import newest
from mmgrid.merging import Blocks, BlockTable, Rule, get_method, merge, merge_state_dicts
from mmgrid.merging.models.sources import Source, open_source
from mmgrid.merging.models.token_blocks import BACKBONE
from mmgrid.merging.plan.block_layout import Action

StateDict = Mapping[str, Tensor]


def merge_to_folder(
    recipe: Mapping[str, Any], folders: Mapping[str, Path], folder: Path, *, final_place: Path
) -> Mapping[str, Any]:
    """Merge checkpoints into `folder`.

    Args:
        recipe: method, weights, scale, seed, options; and the rules and `token_rows` of a general merge.
        folders: role (`source:NAME`, `base`, …) → folder of the model.
        final_place: the final path of the folder, for relative paths.
    """
    out = folder / "merged"
    report = merge(recipe_of_folders(recipe, folders), out, place=final_place)
    move_up(out)  # the cell itself is the model's folder
    return {"tensors": len(report.merged), "bytes": report.bytes_written}


def recipe_of_folders(recipe: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Any]:
    """The merge as a recipe of `mmgrid merge`; arguments as for `merge_to_folder`."""
    recipe = with_learned(recipe, folders)
    sources = named(folders, "source")
    method = get_method(recipe["method"])
    more: dict[str, Any] = {}
    if tables := _tables(sources):
        # Keep the token rows of every domain's codes, so that the merge can recommend for all of its domains.
        one_domain = recipe.get("token_rows") == "merge"
        more["blocks"] = {"*": "merge"} if one_domain else {BACKBONE: "merge", "*": _kept_rows(tables)}
    if rules := _rules(recipe, sources, folders):
        more["rules"] = [{**rule, "base": str(rule["base"])} if "base" in rule else rule for rule in rules]
    return {
        "method": method.name,
        "sources": [
            {"name": name, "path": str(source), "weight": recipe["weights"][name]}
            | ({"statistics": str(recipe["statistics"][name])} if recipe.get("statistics") else {})
            for name, source in sources.items()
        ],
        "base": None if method.base == "none" or "base" not in folders else str(folders["base"]),
        "scale": recipe["scale"],
        "seed": recipe["seed"],
        "options": recipe["options"],
        **more,
    }


def merged_weights(
    recipe: Mapping[str, Any],
    sources: Mapping[str, Path],
    base: Path | StateDict | None,
    *,
    keep: str,
    folders: Mapping[str, Path] | None = None,
) -> dict[str, Tensor]:
    """The state dict of a merge that is evaluated and not kept.

    Args:
        recipe: method, weights, seed, options, and scale (default 1); and the rules and `token_rows` of a general merge.
        base: the folder of the base, or its weights.
        keep: the source whose token rows for codes the result contains, if sources have any; those of others are
            dropped.
        folders: role → folder of a model, for rules.
    """
    method = get_method(recipe["method"])
    below = None if method.base == "none" else base
    with ExitStack() as stack:

        def opened(folder: Path) -> Source:
            return stack.enter_context(open_source(folder))

        rules = [
            Rule(**{**rule, "base": opened(rule["base"])} if "base" in rule else rule)
            for rule in _rules(recipe, sources, folders or {})
        ]
        one_domain = recipe.get("token_rows") == "merge"
        return merge_state_dicts(
            method,
            {name: opened(folder) for name, folder in sources.items()},
            base=opened(below) if isinstance(below, Path) else below,
            weights=recipe.get("weights"),
            scale=_scale(recipe.get("scale", 1.0)),
            seed=recipe.get("seed", 0),
            blocks=None if one_domain else _blocks(sources, below if isinstance(below, Path) else None, keep),
            rules=rules,
            statistics={name: opened(file) for name, file in recipe.get("statistics", {}).items()},
            **recipe.get("options", {}),
        )


def _kept_rows(tables: Mapping[str, BlockTable]) -> str | dict[str, list[str]]:
    """Of which sources the rows for codes are kept: all, or where several are of one domain, the newest of each."""
    of_domain: dict[tuple[str, ...], list[str]] = {}
    for name, table in tables.items():
        tokens = (token for block in table.blocks if block.name != BACKBONE for token in block.tokens)
        of_domain.setdefault(tuple(tokens) or (name,), []).append(name)
    if len(of_domain) == len(tables):
        return "keep_all"
    return {"keep_all": sorted(newest(names) for names in of_domain.values())}


def _rules(recipe: Mapping[str, Any], sources: Mapping[str, Path], folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    if not recipe.get("rules"):
        return []
    with open_source(next(iter(sources.values()))) as tensors:
        return [{**rule, "scale": _scale(rule["scale"])} for rule in engine_rules(recipe, tensors, folders)]


def _scale(scale: Any) -> Any:
    return scale if isinstance(scale, int | float) else tuple(scale)


def named(folders: Mapping[str, Path], prefix: str) -> dict[str, Path]:
    """Name → folder, for all roles `prefix:NAME`."""
    return {role.partition(":")[2]: folder for role, folder in folders.items() if role.startswith(f"{prefix}:")}


def neutral_base(sources: Mapping[str, Path]) -> dict[str, Tensor]:
    """The average of checkpoints, eq. 8, with only the backbone's token rows."""
    tables = _tables(sources)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_source(folder)) for name, folder in sources.items()}
        rules: dict[str, Action] = {BACKBONE: "merge", "*": "drop"}
        return merge_state_dicts("linear", opened, blocks=Blocks(tables, min(sources), rules) if tables else None)


def _blocks(sources: Mapping[str, Path], base: Path | None, keep: str) -> Blocks | None:
    """Merge the backbone's token rows, keep the rows for codes of the source `keep`, and drop the rest.

    This includes the rows of a shared codebook: a base has no rows for codes, and methods with and without a base
    must differ only in the method.
    """
    tables = _tables(sources)
    if not tables:
        return None
    rules: dict[str, Action] = dict.fromkeys((block.name for block in tables[keep].blocks), "keep")
    rules |= {BACKBONE: "merge", "*": "drop"}
    return Blocks(tables, keep, rules, BlockTable.read(base) if base else None)


def _tables(sources: Mapping[str, Path]) -> dict[str, BlockTable]:
    found = {name: BlockTable.read(folder) for name, folder in sources.items()}
    return {name: table for name, table in found.items() if table is not None}
