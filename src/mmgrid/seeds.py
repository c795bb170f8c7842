"""Every random choice derives its own seed from the grid's seed and a name.

No global generator is ever drawn from: two cells, users, examples or tensors with different names get
independent streams, and the order in which they are visited changes nothing.
"""

import hashlib
from operator import index

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for what `names` describes, from the grid's `seed`.

    >>> derive(0, "negatives", 3) == derive(0, "negatives", 3) != derive(1, "negatives", 3)
    True
    """
    parts = [f"str:{name}" if isinstance(name, str) else f"int:{index(name)}" for name in names]
    text = "\x1f".join([str(index(seed)), *parts])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator (counter-based Philox) of its own for what `names` describes."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *names)))
