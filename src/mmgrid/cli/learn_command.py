"""The command `learn`: learns a merge from pseudo-users or histories, and writes it as a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.completion import cells
from mmgrid.cli.folders import Folders
from mmgrid.cli.merge_arguments import options_of, source_of
from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridOfCells, Settings, StoreRoot

if TYPE_CHECKING:
    from mmgrid.learning import Learned, LearningDomain

MOST_ROWS = 40  # of weights in a table


def learn(
    learner: Annotated[
        str, typer.Argument(metavar="LEARNER", help="mergerec or adamerging (weights), fisher or regmean (statistics).")
    ],
    recipe: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RECIPE]", help="What is merged: a recipe of task_arithmetic or linear; or --model and --base."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            help="Without a recipe: a checkpoint: its folder, or with --grid the name of a cell; repeat.",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Without a recipe: the model that the others were trained from. Without it, models are summed and not "
            "their task vectors.",
            autocompletion=cells,
        ),
    ] = None,
    domain_dir: Annotated[
        list[str] | None,
        typer.Option(
            "--domain-dir",
            metavar="NAME=FOLDER",
            help="The prepared domain of a model, such as a corpus cell; for pseudo-users items.parquet is enough. "
            "Default: with --grid, the domain that the model was trained on; repeat.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A setting of the learner, e.g. per=layer, users=histories; repeat."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RECIPE", help="The new recipe.")] = Path("learned.yml"),
    grid: GridOfCells = None,
    store: StoreRoot = DEFAULT_STORE,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Learn a merge from pseudo-users or unlabelled histories, and write it as a recipe."""
    from mmgrid.cli import draw
    from mmgrid.learning import LearningSettings
    from mmgrid.learning import learn as run
    from mmgrid.learning.output import check_free, write_learned

    folder = Folders(grid, store, settings)
    asked = LearningSettings.of(learner, options_of(option or [], "per=layer"))
    check_free(out, recipe)
    start = _recipe(learner, recipe, model or [], base, folder)
    domains = _domains(start, domain_dir or [], folder)
    with draw.Steps(f"learning {learner}", hidden=as_json) as bar:
        learned = run(learner, start, domains, asked, progress=bar)
    files = write_learned(learned, out)
    if as_json:
        draw.print_json(
            _facts(learned, out) | {"settings": asked.model_dump(mode="json"), "files": list(map(str, files))}
        )
    else:
        _print(learner, learned, asked.users, files)


def _recipe(learner: str, file: Path | None, models: list[str], base: Path | None, folder: Folders) -> Any:
    from mmgrid.learning.settings import KINDS
    from mmgrid.merging import MergeRecipe
    from mmgrid.paradigms.facts import CheckpointFacts

    if file is not None:
        if models or base:
            raise typer.BadParameter("--model and --base are for a command without a recipe, which contains them")
        return MergeRecipe.load(file)
    if not models:
        raise typer.BadParameter("give a recipe, or the models to merge: --model MODEL, several times")
    sources = [source_of(text, folder) for text in models]
    trained_on = [CheckpointFacts.read(Path(one["path"])).domains for one in sources]
    for one, (text, domains) in zip(sources, zip(models, trained_on, strict=True), strict=True):
        if "name" not in one:
            if len(domains) != 1 or trained_on.count(domains) > 1:
                raise typer.BadParameter(f"{text}: give it a name: --model NAME={text}", param_hint="--model")
            one["name"] = domains[0]
    summed = "linear" if base is None else "task_arithmetic"
    method = learner if learner in KINDS else summed
    return MergeRecipe.load({"method": method, "sources": sources, "base": None if base is None else folder(str(base))})


def _domains(recipe: Any, given: list[str], folder: Folders) -> dict[str, LearningDomain]:
    """The domain of each source: as given, or the one of the grid that its model was trained on."""
    from mmgrid.learning import LearningDomain
    from mmgrid.paradigms.recommender import Recommender

    folders = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or name not in {source.name for source in recipe.sources}:
            known = ", ".join(str(source.name) for source in recipe.sources)
            raise typer.BadParameter(
                f"{text}: must be NAME=FOLDER with the name of a model ({known})", param_hint="--domain-dir"
            )
        folders[name] = Path(folder(path))
    found = {}
    for source in recipe.anchored().sources:
        recommender = Recommender(source.path)
        if source.name not in folders:
            domains = recommender.facts.domains
            if folder.grid is None or len(domains) != 1:
                raise typer.BadParameter(
                    f"where are the data of {source.name}? Give --domain-dir {source.name}=FOLDER, or --grid for a "
                    "checkpoint of a grid",
                    param_hint="--domain-dir",
                )
            folders[str(source.name)] = Path(folder(f"corpus/{domains[0]}"))
        found[str(source.name)] = LearningDomain(recommender, folders[str(source.name)])
    return found


def _facts(learned: Learned, out: Path) -> dict[str, Any]:
    return {
        "out": str(out),
        "recipe": learned.recipe.model_dump(mode="json", exclude_defaults=True),
        "weights": {group: dict(own) for group, own in learned.weights.items()},
        "losses": list(learned.losses),
        "users": dict(learned.users),
    }


def _print(learner: str, learned: Learned, users: str, files: list[Path]) -> None:
    from mmgrid.cli import draw

    whom = "pseudo-users" if users == "pseudo" else "histories"
    asked = ", ".join(f"{name} {number:,}" for name, number in learned.users.items())
    draw.say(f"{learner} on {whom}: {asked}")
    if learned.losses:
        draw.say(
            f"loss {learned.losses[0]:.4g} before the first of {len(learned.losses):,} steps, {learned.losses[-1]:.4g} at the last"
        )
    if learned.weights:
        sources = list(next(iter(learned.weights.values())))
        rows = [(group, *own.values()) for group, own in learned.weights.items()]
        rows = [(("all tensors" if row[0] == "*" else row[0]), *row[1:]) for row in rows]
        draw.print_table("Weights", ("tensors", *sources), rows[:MOST_ROWS])
        if len(rows) > MOST_ROWS:
            draw.say(f"and {len(rows) - MOST_ROWS:,} more groups")
    draw.say(f"{files[0]}: a recipe; `mmgrid merge {files[0]} OUT` merges it without data")
    for file in files[1:]:
        draw.say(f"{file}: its statistics")
