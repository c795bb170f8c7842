"""Small real data to train and rank with: items with texts, and histories. All are made from a seed."""

from collections.abc import Sequence

import numpy as np
import torch

from mmgrid.data import Histories, Items, Phase

COLOURS = ["red", "green", "blue", "black", "white", "silver"]
SYLLABLES = ["ba", "ke", "li", "mo", "nu", "pa", "re", "so"]
THINGS = ["lamp", "chair", "kettle", "robot", "drum", "puzzle", "scarf"]
PHASE = Phase("pretrain", 0, 1_000_000)


def make_items(n: int, described: bool = True) -> Items:
    """N items with unique names; every second one has a description."""
    titles = [f"{COLOURS[i % 6]} {THINGS[i % 7]} {_name(i)}" for i in range(n)]
    descriptions = [f"a {THINGS[(i + 3) % 7]} of {i * 7} parts" if described and i % 2 else "" for i in range(n)]
    return Items(np.array([f"item{i:04d}" for i in range(n)]), titles, descriptions, np.arange(n, dtype=np.int64))


def _name(number: int) -> str:
    return "".join(SYLLABLES[number // 8**place % 8] for place in range(3))


def make_histories(
    sequences: Sequence[Sequence[int]], times: Sequence[Sequence[int]] | None = None, end: int = PHASE.end
) -> Histories:
    """Histories of these item rows; by default a user's interactions are at times 0, 1, 2, …"""
    if times is None:
        times = [range(len(sequence)) for sequence in sequences]
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)])
    return Histories(
        users=np.arange(len(sequences), dtype=np.int64),
        offsets=offsets.astype(np.int64),
        items=np.array([row for sequence in sequences for row in sequence], np.int32),
        timestamps=np.array([time for row in times for time in row], np.int64),
        end=end,
    )


def random_histories(n_users: int, n_items: int, seed: int = 0, longest: int = 12) -> Histories:
    """Users with 2 to `longest` distinct random items."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 1, n_users)
    return make_histories([rng.choice(n_items, length, replace=False).tolist() for length in lengths])


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two models are equal bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)
