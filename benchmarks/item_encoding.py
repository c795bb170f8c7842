"""Encoding a batch's items: packed behind one shared prompt, against the straightforward ways, in one run.

Prints, for a training step of semb (forward and backward of the item tower, float32, one thread unless
--threads says otherwise), the time of

- `per occurrence, padded`: every item of every history and every negative by itself, padded to the longest;
- `distinct, padded`: each distinct item once, padded to the longest;
- `distinct, packed`: what mmgrid does.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.tiny import create, train_tokenizer
from mmgrid.data.synthetic import World, WorldDomain, simulate
from mmgrid.paradigms.packing import TokenTable, pack
from mmgrid.paradigms.semb_model import SembModel

PROMPT = "Compress the following sentence into embedding: title:"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    world = World((WorldDomain("kitchen", users=2000, items=8000),))
    texts = simulate(world, "kitchen").titles
    tokenizer = train_tokenizer([*texts, PROMPT], 8192)
    encoded = tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]
    table = TokenTable.of(tokenizer(PROMPT)["input_ids"], [text[:32] for text in encoded])
    model = SembModel.over(create(TinyRecipe(), tokenizer, 0).model, 0)
    popularity = 1 / np.arange(1, len(texts) + 1) ** 0.8
    lengths = np.minimum(rng.geometric(1 / 7, options.users) + 1, 26)
    histories = rng.choice(len(texts), int(lengths.sum()), p=popularity / popularity.sum())
    occurrences = np.concatenate([histories, rng.integers(len(texts), size=512)])
    distinct = np.unique(occurrences)
    ways: dict[str, tuple[np.ndarray, Callable[[np.ndarray], dict[str, Tensor]]]] = {
        "per occurrence, padded": (occurrences, lambda items: padded(table, items)),
        "distinct, padded": (distinct, lambda items: padded(table, items)),
        "distinct, packed": (distinct, lambda items: pack(table, items).tensors()),
    }
    seconds = {name: step(model, items, layout, options.repeats) for name, (items, layout) in ways.items()}
    slowest = max(seconds.values())
    print(
        f"torch {torch.__version__}, {options.threads} thread(s), {len(occurrences)} items, {len(distinct)} distinct\n"
    )
    print("| items | seconds a step | speed |\n|---|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {taken:.2f} | {slowest / taken:.2f}× |")


def padded(table: TokenTable, items: np.ndarray) -> dict[str, Tensor]:
    """One row an item, its prompt before it, padded at the end: what `pack` gives when rows hold one item."""
    lengths = table.lengths(items) + 1
    prompt = len(table.prompt)
    width = prompt + int(lengths.max())
    ids = np.zeros((len(items), width), np.int64)
    segments = np.where(np.arange(width) < prompt, 0, np.where(np.arange(width) < prompt + lengths[:, None], 1, -1))
    ids[:, :prompt] = table.prompt
    for row, item in enumerate(items):
        text = table.tokens[table.offsets[item] : table.offsets[item + 1]]
        ids[row, prompt : prompt + len(text)] = text
    positions = np.broadcast_to(np.arange(width), ids.shape).copy()
    places = np.arange(len(items)) * width + prompt + lengths - 1
    arrays = {"input_ids": ids, "position_ids": positions, "segments": segments, "item_places": places}
    return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}


def step(model: SembModel, items: np.ndarray, layout: Callable[[np.ndarray], dict[str, Tensor]], repeats: int) -> float:
    """Best time of a forward and backward pass, laying out the rows included."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        model.encode_items(**layout(items)).square().mean().backward()
        model.zero_grad()
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
