"""The commands `merge`, `methods` and `diff`: merge models, list the merge methods, compare models."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.completion import cells, merge_methods
from mmgrid.cli.folders import Folders
from mmgrid.cli.merge_arguments import Workers, options_of, source_of
from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridOfCells, Settings, StoreRoot

if TYPE_CHECKING:
    from mmgrid.merging import MergeRecipe


def merge(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RECIPE] [OUT]", help="A recipe (YAML or JSON) and the new folder."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Without a recipe: a method; `mmgrid methods` lists them.",
            autocompletion=merge_methods,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL[:WEIGHT]",
            help="Without a recipe: a model to merge: its folder, its name on the Hub (ORG/NAME[@REVISION]), or with --grid "
            "the name of a cell; repeat.",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL", help="Without a recipe: the model the others were trained from.", autocompletion=cells
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the method, e.g. density=0.2; repeat.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="λ[,λ…]",
            help="Factor on the delta; several values are spread over the layers. Default: the recipe's, else 1.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="For methods that draw random numbers. Default: the recipe's, else 0."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Type of the result: source, float32, bfloat16 or float16. Default: the recipe's, else source.",
        ),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="base|union|NAME",
            help="Arrange token rows by the tokens of the base, of all models, or of this source.",
        ),
    ] = None,
    allow_config_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-config-mismatch",
            help="Merge models whose configs differ in settings that change what the same weights compute.",
        ),
    ] = False,
    mergekit: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="Read a mergekit file instead of a recipe, with mergekit's meanings."),
    ] = None,
    family: Annotated[
        bool,
        typer.Option(
            "--family", help="Write a family: the shared model, and a small part for each source (section `family`)."
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="OUT", help="The new folder.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the cost of the merge; write nothing.")] = False,
    verify: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Merge again and compare with this folder; write nothing.")
    ] = None,
    digests: Annotated[
        bool, typer.Option("--digests/--no-digests", help="Compute digests of the models, for the record.")
    ] = True,
    workers: Workers = None,
    grid: GridOfCells = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Merge models, given by a recipe, options or a mergekit file."""
    folder = Folders(grid, store, settings)
    if verify is not None:
        if paths or method or mergekit or plan:
            raise typer.BadParameter("takes a merged folder and nothing else", param_hint="--verify")
        _verify(Path(folder(str(verify))), workers, as_json)
        return
    rest = list(paths or [])
    described = bool(model or base or option)
    changes = _changes(scale, seed, dtype, vocabulary, allow_config_mismatch)
    if family:
        _family(rest, out, described or bool(method or mergekit or plan or changes), workers, digests, as_json)
        return
    named = sum(origin is not None for origin in (method, mergekit))
    if named > 1 or not (named or rest):
        raise typer.BadParameter(f"needs one recipe, --method or --mergekit{', not both' if named else ''}")
    if described and method is None:
        raise typer.BadParameter("--model, --base and --option need --method; a recipe contains these settings")
    file = None if named else rest.pop(0)
    target = out if out is not None else (rest.pop(0) if rest else None)
    if rest:
        raise typer.BadParameter(f"{rest[0]}: one recipe and one output folder are enough")
    if mergekit is not None and _holds_several(mergekit):
        if plan or target is None or changes.keys() - {"seed"}:
            raise typer.BadParameter(
                "this file holds several merges: name the new folder, and give no other options than --seed, "
                "--workers and --no-digests",
                param_hint="--mergekit",
            )
        _merge_several(mergekit, target, seed, workers, digests, as_json)
        return
    notes: tuple[str, ...] = ()
    if file is not None:
        recipe = _from_file(file)
    elif mergekit is not None:
        recipe, notes = _from_mergekit(mergekit, seed)
    else:
        recipe = _from_options(str(method), model or [], base, option or [], folder)
    recipe = _changed(recipe, changes)
    if plan:
        _plan(recipe, target, workers, notes, as_json)
        return
    if target is None:
        raise typer.BadParameter("name the new folder: OUT, or -o OUT")
    _merge(recipe, target, workers, digests, notes, as_json)


def _family(paths: list[Path], out: Path | None, more: bool, workers: int | None, digests: bool, as_json: bool) -> None:
    """Writes a family by the recipe that is the first path."""
    from mmgrid.cli.family_commands import merge_family

    target = out if out is not None else (paths[1] if len(paths) > 1 else None)
    if more or target is None or not paths or len(paths) > 1 + (out is None):
        raise typer.BadParameter("takes a recipe and the new folder, and no other options", param_hint="--family")
    merge_family(paths[0], target, workers, digests, as_json)


def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Show all details of this method.", autocompletion=merge_methods),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the merge methods, or show the details of one."""
    from mmgrid.cli import draw, merge_views
    from mmgrid.merging.methods import METHODS, get_method

    if name is None:
        rows = merge_views.formulas(METHODS.working().values())
        draw.print_json(rows) if as_json else merge_views.print_formulas(rows)
        return
    facts = merge_views.method_facts(get_method(name))
    draw.print_json(facts) if as_json else merge_views.print_method(facts)


def diff(
    models: Annotated[
        list[Path], typer.Argument(metavar="A B [C …]", help="Models: folders, safetensors files, or names on the Hub.")
    ],
    base: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Compare the task vectors from this model.", autocompletion=cells),
    ] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="Also print one line per tensor.")] = False,
    workers: Workers = None,
    grid: GridOfCells = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Compare models: norms, cosines, sign conflicts, equal weights."""
    from mmgrid.cli import draw, merge_views
    from mmgrid.merging.compare import compare

    if len(models) < 2:
        raise typer.BadParameter("needs two models or more")
    names = [str(path) for path in models]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    folder = Folders(grid, store, settings)
    folders = [Path(folder(str(path))) for path in models]
    with draw.Bytes("comparing", hidden=as_json) as bar:
        found = compare(*folders, base=base and Path(folder(str(base))), names=names, workers=workers, progress=bar)
    if as_json:
        draw.print_json(merge_views.comparison_facts(found))
    else:
        merge_views.print_comparison(found, tensors=tensors)


def _from_file(path: Path) -> "MergeRecipe":
    from mmgrid.merging import MergeRecipe

    return MergeRecipe.load(path)


def _from_mergekit(path: Path, seed: int | None) -> "tuple[MergeRecipe, tuple[str, ...]]":
    from mmgrid.merging.mergekit import read_mergekit

    read = read_mergekit(path, seed=seed or 0)
    return read.recipe, read.notes


def _holds_several(path: Path) -> bool:
    from mmgrid.merging.mergekit import count_merges

    return count_merges(path) > 1


def _merge_several(path: Path, out: Path, seed: int | None, workers: int | None, digests: bool, as_json: bool) -> None:
    """Merges all merges of a mergekit file, each after those that it uses."""
    from mmgrid.merging.mergekit import read_merges

    for one in read_merges(path, out, seed=seed or 0):
        _merge(one.read.recipe, one.out, workers, digests, one.read.notes, as_json)


def _from_options(
    method: str, models: list[str], base: Path | None, options: list[str], folder: Folders
) -> "MergeRecipe":
    from mmgrid.merging import MergeRecipe

    if not models:
        raise typer.BadParameter("name the models to merge: --model PATH[:WEIGHT], several times")
    recipe: dict[str, Any] = {
        "method": method,
        "sources": [source_of(text, folder) for text in models],
        "options": options_of(options, "density=0.2"),
    }
    return MergeRecipe.load({**recipe, "base": None if base is None else folder(str(base))})


def _changes(
    scale: str | None, seed: int | None, dtype: str | None, vocabulary: str | None, allow_config_mismatch: bool
) -> dict[str, Any]:
    """The values of a recipe that options of the command line set, however the recipe is given."""
    given = {
        "scale": None if scale is None else _scale(scale),
        "seed": seed,
        "dtype": dtype,
        "vocabulary": vocabulary,
        "allow_config_mismatch": allow_config_mismatch or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _scale(text: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text}: must be a number, or several with commas", param_hint="--scale") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _changed(recipe: "MergeRecipe", changes: dict[str, Any]) -> "MergeRecipe":
    from mmgrid.merging import MergeRecipe

    return MergeRecipe.load({**recipe.model_dump(mode="json"), **changes}) if changes else recipe


def _merge(
    recipe: "MergeRecipe", out: Path, workers: int | None, digests: bool, notes: tuple[str, ...], as_json: bool
) -> None:
    from mmgrid.cli import draw, merge_views
    from mmgrid.merging import merge as run

    with draw.Bytes("merging", hidden=as_json) as bar:
        report = run(recipe, out, workers=workers, progress=bar, digests=digests, notes=notes, measure=as_json)
    if as_json:
        draw.print_json(
            asdict(report)
            | {
                "out": str(report.out),
                "sources": {name: str(path) for name, path in report.sources.items()},
                "fraction_of_bound": report.fraction_of_bound,
            }
        )
    else:
        merge_views.print_report(report, recipe)


def _plan(recipe: "MergeRecipe", out: Path | None, workers: int | None, notes: tuple[str, ...], as_json: bool) -> None:
    from mmgrid.cli import draw, merge_views
    from mmgrid.merging.cost import estimate

    found = estimate(recipe, out, workers=workers)
    if as_json:
        draw.print_json(asdict(found) | {"passes": found.passes, "bound": found.bound, "notes": list(notes)})
    else:
        merge_views.print_estimate(found, notes)


def _verify(folder: Path, workers: int | None, as_json: bool) -> None:
    from mmgrid.cli import draw, merge_views
    from mmgrid.merging.verify import verify

    with draw.Bytes("comparing", hidden=as_json) as bar:
        found = verify(folder, workers=workers, progress=bar)
    if as_json:
        draw.print_json(asdict(found) | {"folder": str(found.folder), "equal": found.equal})
    else:
        merge_views.print_verification(found)
    if not found.equal:
        raise typer.Exit(1)
