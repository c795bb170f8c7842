"""Recommending for many users from given vectors: `dense_top`, and the bare matrix product and top-k beside it.

Both take blocks of the same size. The bare one neither leaves out histories, nor orders ties, nor looks for broken scores.

    python benchmarks/batch_recommend.py --users 100000 --items 60000 --width 256
"""

import argparse
import multiprocessing as mp
import resource
import time
from typing import Any

import numpy as np
import torch

from mmgrid.data import Histories, Items
from mmgrid.paradigms.shared.dot_product import SCORES, dense_top

K, LONGEST = 10, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=4096)
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    print("| way | seconds | of work | users per second of work | MiB above the vectors |\n|---|--:|--:|--:|--:|")
    for way in ("bare", "dense_top") * options.repeats:
        seconds, work, mib = measured(way, options)
        print(f"| {way} | {seconds:.1f} | {work:.1f} | {options.users / work:,.0f} | {mib:,.0f} |", flush=True)


def measured(way: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds on the clock and of processor time, and peak memory (MiB) above the vectors, in a process of its own."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, way, options))
    process.start()
    found = ours.recv()
    process.join()
    return found


def _run(pipe: Any, way: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    draw = torch.Generator().manual_seed(0)
    users = torch.randn(options.users, options.width, generator=draw)
    vectors = torch.randn(options.items, options.width, generator=draw)
    lengths = np.random.default_rng(0).integers(1, LONGEST, options.users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    taken = np.random.default_rng(1).integers(0, options.items, offsets[-1]).astype(np.int32)
    histories = Histories(np.arange(options.users), offsets, taken, np.zeros(len(taken), np.int64), 1)
    rows = np.arange(options.items)
    items = Items(rows.astype(str), [""] * len(rows), [""] * len(rows), rows)
    few = slice(0, 64)
    bare(users[few], vectors)  # imports and threads
    before = _peak()
    begun, worked = time.perf_counter(), time.process_time()
    if way == "bare":
        bare(users, vectors)
    else:
        dense_top(users, vectors, histories, items, K)
    pipe.send((time.perf_counter() - begun, time.process_time() - worked, _peak() - before))


def bare(users: torch.Tensor, items: torch.Tensor) -> None:
    """The matrix product and the best of each row, block by block."""
    for block in users.split(SCORES // len(items)):
        torch.topk(block @ items.T, K, dim=1)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
