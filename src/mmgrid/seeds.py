"""Derives a separate seed for every random choice from the grid's seed and a name.

No global generator is used: cells, users, examples and tensors with different names get independent streams, and the
order in which they are visited does not matter.
"""

import hashlib
from operator import index

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the purpose that `names` describes, derived from the grid's `seed`.

    >>> derive(0, "negatives", 3) == derive(0, "negatives", 3) != derive(1, "negatives", 3)
    True
    """
    parts = [f"str:{name}" if isinstance(name, str) else f"int:{index(name)}" for name in names]
    text = "\x1f".join([str(index(seed)), *parts])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator (counter-based Philox) seeded with `derive(seed, *names)`."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *names)))
