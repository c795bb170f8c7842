"""Shared by the benchmarks of training: real or synthetic data, best times, peak memory, and tables."""

import argparse
import multiprocessing as mp
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.tiny import create, train_tokenizer
from mmgrid.data import Corpus, Histories, Items
from mmgrid.data.synthetic import World, WorldDomain, simulate

WORLD = World((WorldDomain("kitchen", users=2000, items=8000),))

Way = Callable[[], object]


def options(about: str | None) -> argparse.ArgumentParser:
    """The options of all benchmarks of training."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    return parser


def domain(folder: Path | None) -> tuple[Items, Histories]:
    """The items of a domain, and its histories without the last tenth of the interactions."""
    if folder is not None:
        corpus = Corpus.load(folder)
        return corpus.catalogue, corpus.histories(int(np.quantile(corpus.timestamps, 0.9)))
    made = simulate(WORLD, "kitchen")
    rows = np.arange(len(made.titles))
    items = Items(rows.astype(str), made.titles, made.descriptions, rows)
    users, counts = np.unique(made.users, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return items, Histories(users, offsets, made.items.astype(np.int32), made.times_ms, int(made.times_ms.max()) + 1)


def backbone(folder: Path | None, items: Items, head: bool = True) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The backbone in a folder, or an untrained tiny one."""
    if folder is not None:
        return load_model(folder, head=head), load_tokenizer(folder)
    tokenizer = train_tokenizer([*items.titles, *items.descriptions], TinyRecipe().vocabulary)
    model = create(TinyRecipe(), tokenizer, 0)
    return model if head else model.model, tokenizer


def batches_of(examples: Any, size: int, count: int) -> list[list[Any]]:
    """Batches of drawn examples, in random order as in training."""
    chosen = np.random.default_rng(0).permutation(len(examples))[: count * size].tolist()
    return [
        [examples.draw(index, 0) for index in chosen[start : start + size]] for start in range(0, len(chosen), size)
    ]


def step(model: Any, batches: list[list[Any]], loss: Callable[..., Any]) -> Way:
    """Forward and backward passes over all batches, including collation."""

    def run() -> list[float]:
        model.train()
        losses = []
        for batch in batches:
            value = loss(model, batch)
            value.backward()
            model.zero_grad()
            losses.append(value.item())
        return losses

    return run


def best_times(ways: Mapping[str, Way], repeats: int) -> dict[str, float]:
    """The best time of each way in seconds, measured in turns; all ways must give the same result."""
    best = dict.fromkeys(ways, float("inf"))
    found: dict[str, Any] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way()
            best[name] = min(best[name], time.perf_counter() - start)
    first, *others = found.values()
    assert all(other == first or np.allclose(other, first, rtol=1e-4) for other in others), f"they differ: {found}"
    return best


def peak_mib(run: Way) -> float:
    """The increase of peak memory by a run, in a forked process."""

    def measured(pipe: Any) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)

    ours, theirs = mp.Pipe()
    process = mp.get_context("fork").Process(target=measured, args=(theirs,))
    process.start()
    peak = ours.recv()
    process.join()
    return peak


def compare_steps(
    model: Any,
    batches: list[list[Any]],
    losses: Mapping[str, Callable[..., Any]],
    *,
    tokens: int,
    users: float,
    repeats: int,
) -> None:
    """Prints a table of training steps: the throughput of each way, and the peak memory of its first batch.

    Args:
        users: users per example on average; a pass over the examples of a domain is a pass over its users.
    """
    # Peaks first: memory freed by earlier steps would be reused, and the peak would look lower.
    peaks = {name: peak_mib(step(model, batches[:1], loss)) for name, loss in losses.items()}
    seconds = best_times({name: step(model, batches, loss) for name, loss in losses.items()}, repeats)
    examples, slowest = sum(map(len, batches)), max(seconds.values())
    print("| way | tokens per second | examples per second | users per second | speed | peak memory of a step |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, taken in seconds.items():
        print(
            f"| {name} | {tokens / taken:,.0f} | {examples / taken:,.1f} | {examples * users / taken:,.1f} "
            f"| {slowest / taken:.2f}× | {peaks[name]:,.0f} MiB |"
        )
    print()


def show(unit: str, count: int, seconds: Mapping[str, float]) -> None:
    """Prints a table of the throughput of each way."""
    slowest = max(seconds.values())
    print(f"| way | {unit} per second | speed |\n|---|--:|--:|")
    for name, taken in seconds.items():
        print(f"| {name} | {count / taken:,.0f} | {slowest / taken:.2f}× |")
    print()
