"""Compares our SASRec, trained in one run, with RecBole's on the same interactions and the same test users.

A weak baseline makes every other model look good, so ours is compared with an independent implementation. Both train
on every interaction before the cut (t2; t1 with `--target phase2`) as a target, with the 25 items before it, at the
same width, depth, dropout and learning rate. They differ in their batches: ours takes the loss at every position of a
window, RecBole's at the end of each prefix, so a batch of RecBole has as many prefixes as a batch of ours has targets
on average. The full catalogue is ranked with the whole history masked; the same code computes metrics and intervals of
both from the ranks.

RecBole needs older numpy and pandas than mmgrid: create a separate environment
(`pip install recbole==1.2.1 torch 'numpy<2' 'pandas<2.2' 'scipy<1.13' 'setuptools<81'`) and give its interpreter:

    python benchmarks/sasrec_vs_recbole.py --domain beauty --recbole-python PATH

Several values of `--epochs` or `--recbole-epochs` are points of one run, to choose from with `--target phase2`.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmgrid import __version__
from mmgrid.data import READERS, Corpus, HeldOutUsers, Histories, Phase, held_out_users, prepare
from mmgrid.data.held_out import Target
from mmgrid.evaluation import bootstrap_interval, paired_difference, per_user, popularity_ranks
from mmgrid.grid.file.load import Grid, load_grid
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.paradigms.sasrec.spec import SasrecRecipe
from mmgrid.seeds import derive
from mmgrid.training.fit import fit

HERE = Path(__file__).resolve().parent
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


@dataclass(frozen=True)
class Split:
    """The data of both: all interactions before `phase.end` for training, and the test users."""

    corpus: Corpus
    phase: Phase
    histories: Histories
    tested: HeldOutUsers
    recipe: SasrecRecipe
    seed: int
    threads: int


@dataclass(frozen=True)
class Result:
    """One row of the table; ranks int64[U]."""

    name: str
    ranks: np.ndarray
    epochs: float | None = None
    seconds: float | None = None


def main() -> None:
    arguments = _arguments()
    grid = load_grid(arguments.grid, arguments.set)
    split = _split(grid, arguments.domain, arguments.target, arguments.seed)
    torch.set_num_threads(split.threads)
    results = [_popularity(split)]
    notes = [_describe(split, arguments)]
    if not arguments.skip_ours:
        results += _ours(split, arguments.epochs or [split.recipe.epochs.of("all")])
    if arguments.recbole_python:
        with tempfile.TemporaryDirectory() as folder:
            theirs, note = _recbole(split, arguments, Path(folder))
        results += theirs
        notes.append(note)
    print(_table(results, arguments.seed), *notes, sep="\n\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares our SASRec with RecBole's on the same split and users.")
    parser.add_argument("--domain", required=True, help="a domain of the grid")
    parser.add_argument("--recbole-python", metavar="PATH", help="interpreter with RecBole; default: train only ours")
    parser.add_argument("--grid", type=Path, default=HERE.parent / "grids" / "amazon14.toml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of the grid")
    parser.add_argument("--target", choices=("test", "phase2"), default="test")
    parser.add_argument("--epochs", type=float, nargs="+", help="epochs of ours; default: the recipe's")
    parser.add_argument("--recbole-epochs", type=int, nargs="+", default=[10])
    parser.add_argument("--recbole-dropout", type=float, help="dropout of RecBole's; default: that of ours")
    parser.add_argument("--trim-padding", action="store_true", help="run RecBole without computation on padding")
    parser.add_argument("--skip-ours", action="store_true", help="train only RecBole's")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _split(grid: Grid, domain: str, target: Target, seed: int) -> Split:
    spec, calendar = grid.spec, grid.spec.phases.calendar()
    if spec.data.catalogue != "closed":
        raise SystemExit("data.catalogue: RecBole knows all items from the start; compare on a closed catalogue")
    recipe = spec.recipe("sasrec")
    assert isinstance(recipe, SasrecRecipe)
    raw = READERS[spec.data.format].read(grid.path(str(spec.data.root)), domain)
    corpus = prepare(raw, calendar, min_interactions=spec.data.min_interactions, max_users=spec.data.max_users).corpus
    end = calendar.t2 if target == "test" else calendar.t1
    known = corpus.before(end)
    tested = held_out_users(corpus, calendar, target, spec.evaluation.max_users, spec.all_seeds[0])
    phase = Phase("all", calendar.pretrain.start, end)
    return Split(known, phase, known.histories(end), tested, recipe, seed, spec.threads_per_cell)


def _popularity(split: Split) -> Result:
    counts = np.bincount(split.corpus.items, minlength=len(split.corpus.catalogue))
    seen = split.tested.histories
    return Result("popularity", popularity_ranks(counts, split.tested.targets, seen.offsets, seen.items))


def _ours(split: Split, epochs: list[float]) -> list[Result]:
    """Trains ours like the grid's cell `all`, and evaluates it at the first logged step after each number of epochs."""
    recipe, items, last = split.recipe, split.corpus.catalogue, max(epochs)
    if len(epochs) > 1 and recipe.schedule != "constant":
        raise SystemExit("several --epochs are points of one run, which needs schedule = 'constant'")
    seed = derive(split.seed, "checkpoint", "sasrec", split.corpus.name, "all")
    paradigm: Any = Sasrec(recipe.history_length)
    model = Sasrec.create(recipe, items, seed)
    examples = paradigm.examples(split.histories, items, split.phase, seed)
    training = recipe.training("all").model_copy(update={"epochs": last})
    results: list[Result] = []
    waiting = sorted(epochs)
    asking = 0.0

    def ask(step: int, steps: int, loss: float | None) -> None:
        nonlocal asking
        if not waiting or step < steps * waiting[0] / last:
            return
        trained = time.perf_counter() - started - asking
        ranks = paradigm.rank(model, split.tested.histories, items, split.tested.targets)
        results.append(Result("mmgrid SASRec", ranks, waiting.pop(0), trained))
        asking = time.perf_counter() - started - trained
        print(f"ours: step {step} of {steps}, loss {loss}, {trained:.0f} s", file=sys.stderr, flush=True)

    torch.manual_seed(seed)
    model.train()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit(model, examples, paradigm.loss, training, Path(folder), seed=seed, progress=ask, save_seconds=1e9)
    if waiting:  # the last step may not be a logged one
        ask(1, 1, None)
    return results


def _recbole(split: Split, arguments: argparse.Namespace, folder: Path) -> tuple[list[Result], str]:
    """Trains RecBole's in the other interpreter; returns its results and the metrics of its evaluator."""
    epochs = sorted(arguments.recbole_epochs)
    _write_dataset(split, folder / split.corpus.name)
    job = {
        "dataset": split.corpus.name,
        "config": _config(split, arguments, folder),
        "epochs": epochs,
        "threads": split.threads,
        "trim": arguments.trim_padding,
        "questions": str(folder / "questions.npz"),
        "ranks": str(folder / "ranks.npz"),
        "facts": str(folder / "facts.json"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [arguments.recbole_python, str(HERE / "recbole_driver.py"), str(folder / "job.json")]
    # RecBole writes its logs to the working folder.
    done = subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}; see its output above")
    facts = json.loads((folder / "facts.json").read_text())
    with np.load(folder / "ranks.npz") as ranks:
        masked, unmasked = ranks["masked"], ranks["unmasked"]
    results = [
        Result("RecBole SASRec", ranks, count, own["seconds"])
        for ranks, count, own in zip(masked, epochs, facts["own"], strict=True)
    ]
    return results, _check_own(facts, unmasked[-1], job["config"])


def _config(split: Split, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """RecBole's settings for our recipe."""
    recipe = split.recipe
    n_targets = int(np.maximum(split.histories.lengths - 1, 0).sum())
    n_windows = len(Sasrec(recipe.history_length).examples(split.histories, split.corpus.catalogue, split.phase, 0))
    dropout = recipe.dropout if arguments.recbole_dropout is None else arguments.recbole_dropout
    return {
        "data_path": str(folder),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"], "item": ["item_id"]},
        "alias_of_item_id": ["item_id_list"],
        "MAX_ITEM_LIST_LENGTH": recipe.history_length,
        "n_layers": recipe.layers,
        "n_heads": recipe.heads,
        "hidden_size": recipe.hidden_size,
        "inner_size": recipe.intermediate_size,
        "hidden_dropout_prob": dropout,
        "attn_dropout_prob": dropout,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "learning_rate": recipe.learning_rate.of("all"),
        "weight_decay": recipe.weight_decay,
        "train_batch_size": round(recipe.batch_size * n_targets / n_windows),
        "epochs": max(arguments.recbole_epochs),
        "eval_args": {"split": None, "group_by": None, "order": "TO", "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "topk": [10, 20],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 6,
        "seed": split.seed,
        "use_gpu": False,
        "show_progress": False,
        "save_dataset": False,
    }


def _write_dataset(split: Split, folder: Path) -> None:
    """Writes RecBole's files: one line per prefix, items named by their rows, and all items of the catalogue.

    `valid` repeats the test users for want of an empty file's being allowed; training never reads it.
    """
    folder.mkdir()
    length, name = split.recipe.history_length, split.corpus.name
    seen, targets, n_items = split.tested.histories, split.tested.targets, len(split.corpus.catalogue)
    header = "user_id:token\titem_id_list:token_seq\titem_id:token"
    train = [
        _line(user, history[max(0, place - length) : place], history[place])
        for user, history in ((i, split.histories.of(i)) for i in range(len(split.histories)))
        for place in range(1, len(history))
    ]
    test = [_line(i, seen.of(i)[-length:], target) for i, target in enumerate(targets)]
    for part, lines in (("train", train), ("valid", test), ("test", test)):
        (folder / f"{name}.{part}.inter").write_text("\n".join([header, *lines]) + "\n")
    (folder / f"{name}.item").write_text("\n".join(["item_id:token", *map(str, range(n_items))]) + "\n")
    np.savez(folder.parent / "questions.npz", offsets=seen.offsets, items=seen.items, targets=targets, n_items=n_items)


def _line(user: int, history: np.ndarray, target: int) -> str:
    return f"{user}\t{' '.join(map(str, history.tolist()))}\t{int(target)}"


def _check_own(facts: Mapping[str, Any], unmasked: np.ndarray, config: Mapping[str, Any]) -> str:
    """Compares RecBole's evaluator with our metrics of its unmasked ranks, which must agree."""
    own = facts["own"][-1]
    ours = per_user(unmasked, METRICS).mean(axis=0)
    pairs = ", ".join(
        f"{metric} {100 * own[metric]:.3f} / {100 * value:.3f}" for metric, value in zip(METRICS, ours, strict=True)
    )
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"RecBole: {facts['examples']} prefixes in batches of {config['train_batch_size']}, dropout "
        f"{config['hidden_dropout_prob']}, {facts['parameters']} parameters"
        f"{', padding trimmed' if facts['trimmed'] else ''} ({versions}).\n"
        f"Its evaluator / our metrics of its ranks, history not masked: {pairs}."
    )


def _describe(split: Split, arguments: argparse.Namespace) -> str:
    recipe = split.recipe
    return (
        f"{arguments.domain}, target {arguments.target}, seed {split.seed}: {len(split.corpus)} interactions of "
        f"{split.corpus.n_users} users, {len(split.corpus.catalogue)} items, {len(split.tested)} test users; "
        f"percent, 95 % bootstrap intervals over users.\n"
        f"Ours: batch {recipe.batch_size} windows, dropout {recipe.dropout}, learning rate "
        f"{recipe.learning_rate.of('all')} ({recipe.schedule}), {split.threads} thread(s) (mmgrid {__version__}, "
        f"torch {torch.__version__}, numpy {np.__version__}, python {platform.python_version()})."
    )


def _table(results: list[Result], seed: int) -> str:
    """The table in Markdown; with one row per model, also their paired difference."""
    lines = [
        "| model | epochs | " + " | ".join(METRICS) + " | seconds |",
        "|---|--:|" + "--:|" * (len(METRICS) + 1),
    ]
    for result in results:
        interval = bootstrap_interval(per_user(result.ranks, METRICS) * 100, seed=seed)
        cells = [
            f"{value:.2f} [{low:.2f}, {high:.2f}]"
            for value, low, high in zip(interval.value, interval.low, interval.high, strict=True)
        ]
        epochs = "–" if result.epochs is None else f"{result.epochs:g}"
        seconds = "–" if result.seconds is None else f"{result.seconds:.0f}"
        lines.append(f"| {result.name} | {epochs} | " + " | ".join(cells) + f" | {seconds} |")
    ours = [result for result in results if result.name.startswith("mmgrid")]
    theirs = [result for result in results if result.name.startswith("RecBole")]
    if len(ours) == len(theirs) == 1:
        lines.append(_difference(ours[0], theirs[0], seed))
    return "\n".join(lines)


def _difference(ours: Result, theirs: Result, seed: int) -> str:
    change = paired_difference(per_user(ours.ranks, METRICS) * 100, per_user(theirs.ranks, METRICS) * 100, seed=seed)
    cells = [
        f"{value:+.2f} [{low:+.2f}, {high:+.2f}], p {p:.2f}"
        for value, low, high, p in zip(change.difference, change.low, change.high, change.p_permutation, strict=True)
    ]
    return "| ours − RecBole, paired | | " + " | ".join(cells) + " | |"


if __name__ == "__main__":
    main()
