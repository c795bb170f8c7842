"""What learned merges keep of each domain, beside merges without data: one Markdown table.

    python benchmarks/learned_merges.py GRID --store FOLDER --paradigm semb --work FOLDER

Merges the newest checkpoints of all domains of a grid, whose cells are built, with each of `WAYS`; a recipe that is in
the work folder is not learned again. Quality is NDCG@10 of the grid's own evaluation; shares are of each domain's own
newest checkpoint.
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.grid.standing.open_cell import corpus_folder, open_cell
from mmgrid.learning import LearningDomain, LearningSettings, learn
from mmgrid.learning.output import write_learned
from mmgrid.merging import merge
from mmgrid.paradigms import Recommender

FAST = {"steps": 100, "learning_rate": 0.02, "batch_size": 75}
PLAIN: dict[str, dict[str, Any]] = {
    "average": {"method": "linear"},
    "task arithmetic, λ = 0.3 each": {"method": "task_arithmetic", "scale": 0.3},
    "TIES, density 0.2": {"method": "ties", "options": {"density": 0.2}},
    "the paper's subspace": {"method": "ties", "options": {"preset": "subspace"}},
    "singular vectors (TSV-M)": {"method": "tsv_m"},
}
LEARNED: dict[str, tuple[str, dict[str, Any]]] = {
    "mergerec, per domain": ("mergerec", FAST),
    "mergerec, per layer": ("mergerec", {**FAST, "per": "layer"}),
    "mergerec, per layer, from histories": ("mergerec", {**FAST, "per": "layer", "users": "histories"}),
    "adamerging, per domain": ("adamerging", FAST),
    "adamerging, per layer": ("adamerging", {**FAST, "per": "layer"}),
    "fisher": ("fisher", {}),
    "fisher, pseudo-users": ("fisher", {"users": "pseudo"}),
    "regmean": ("regmean", {}),
    "regmean, pseudo-users": ("regmean", {"users": "pseudo"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--paradigm", default="semb")
    parser.add_argument("--work", type=Path, required=True, help="for recipes and merged models")
    parser.add_argument("--only", action="append", help="a way; repeat")
    parser.add_argument("--recipe", action="append", type=Path, default=[], help="a further recipe to measure")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    session = GridStore.open(asked.grid, asked.store)
    domains = list(session.grid.spec.data.domains)
    models = {name: open_cell(session, f"checkpoint/{asked.paradigm}/{name}/phase2") for name in domains}
    data = {name: corpus_folder(session, name) for name in domains}
    base = session.folder(session.cell(f"base/{asked.paradigm}"))
    sources = [{"name": name, "path": str(models[name].folder)} for name in domains]
    own = {name: quality(models[name], data[name]) for name in domains}
    print(f"| merge | {' | '.join(domains)} | mean kept | least kept | seconds to learn |")
    print(f"|---|{'--:|' * (len(domains) + 3)}")
    print(f"| own models | {' | '.join(f'{own[name]:.2f}' for name in domains)} | 100 | 100 | |", flush=True)
    ways: dict[str, Any] = {**PLAIN, **LEARNED, **{str(file): file for file in asked.recipe}}
    for way, about in ways.items():
        if asked.only and way not in asked.only:
            continue
        seconds = 0.0
        if isinstance(about, Path):
            recipe: Any = about
        elif isinstance(about, dict):
            needs_base = about["method"] != "linear"
            recipe = {**about, "sources": sources, **({"base": str(base)} if needs_base else {})}
        else:
            recipe = asked.work / f"{''.join(sign if sign.isalnum() else '-' for sign in way)}.yml"
            if not recipe.exists():
                clock = time.perf_counter()
                learner, values = about
                start = {"method": "task_arithmetic", "base": str(base), "sources": sources}
                given = {name: LearningDomain(models[name], data[name]) for name in domains}
                write_learned(learn(learner, start, given, LearningSettings.of(learner, values)), recipe)
                seconds = time.perf_counter() - clock
        shutil.rmtree(asked.work / "merged", ignore_errors=True)
        merge(recipe, asked.work / "merged", digests=False)
        found = {
            name: quality(Recommender(asked.work / "merged", facts=models[name].facts), data[name]) for name in domains
        }
        kept = [100 * found[name] / own[name] for name in domains]
        took = f"{seconds:.0f}" if seconds else ""
        cells = " | ".join(f"{found[name]:.2f}" for name in domains)
        print(f"| {way} | {cells} | {sum(kept) / len(kept):.0f} | {min(kept):.0f} | {took} |", flush=True)


def quality(model: Recommender, data: Path) -> float:
    """NDCG@10 of all test users, in percent."""
    rows = model.evaluate(data).rows
    return float(rows.filter((rows["metric"] == "ndcg@10") & (rows["group"] == "all"))["value"][0])


if __name__ == "__main__":
    main()
