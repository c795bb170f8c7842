"""Time and memory to build the trie of a catalogue of ten million items with four levels of 256 codes."""

import argparse
import resource
import time

import numpy as np

from mmgrid.decoding import ItemTrie

LEVELS, CODES = 4, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000_000)
    options = parser.parse_args()
    codes = np.random.default_rng(0).integers(0, CODES, (options.items, LEVELS), dtype=np.int32)
    tokens = np.arange(LEVELS * CODES).reshape(LEVELS, CODES)
    ItemTrie(codes[:1000], tokens)  # imports
    before = peak_mib()
    start = time.perf_counter()
    trie = ItemTrie(codes, tokens)
    seconds = time.perf_counter() - start
    print("| items | nodes per level | seconds | peak without the codes, MiB |\n|--:|---|--:|--:|")
    nodes = ", ".join(f"{len(level.codes):,}" for level in trie.levels)
    print(f"| {len(trie):,} | {nodes} | {seconds:.1f} | {peak_mib() - before:,.0f} |")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
