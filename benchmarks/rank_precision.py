"""How far ranks move if a model ranks in bfloat16 (`evaluation_precision = "bf16"`) instead of float32.

For each checkpoint of a grid that is built: the share of test users whose target keeps its rank, the largest move among
the 95 % that move least, in percent of the catalogue, and NDCG@20 and recall@20 in both.

    python benchmarks/rank_precision.py GRID --model phase2 [--users 300]
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import mmgrid
from mmgrid.evaluation import NOT_RANKED
from mmgrid.evaluation.metrics import ndcg, recall
from mmgrid.grid.file.load import load_grid
from mmgrid.paradigms.recommender import Recommender


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the grid file")
    parser.add_argument("--model", default="phase2")
    parser.add_argument("--users", type=int)
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    grid = load_grid(given.grid, given.set)
    print(f"torch {torch.__version__}, {given.grid.name}, {given.model}\n")
    print("| paradigm | domain | users | same rank | 95 % move at most | NDCG@20 float32 → bf16 | recall@20 |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for paradigm in grid.spec.paradigms:
        for domain in grid.spec.data.domains:
            try:
                folders = [
                    mmgrid.cell_folder(grid, cell, store=given.store)
                    for cell in (f"checkpoint/{paradigm}/{domain}/{given.model}", f"corpus/{domain}")
                ]
            except (KeyError, ValueError, OSError):
                continue
            print(row(paradigm, domain, *folders, given.users), flush=True)


def row(paradigm: str, domain: str, checkpoint: Path, corpus: Path, users: int | None) -> str:
    """One line of the table."""
    ranks, size = {}, 0
    for precision in ("float32", "bf16"):
        recommender = Recommender(checkpoint, values={"evaluation_precision": precision})
        found = recommender.evaluate(corpus, max_users=users)
        ranks[precision] = found.ranks["rank"].to_numpy()
        size = len(mmgrid.data.Corpus.load(corpus).catalogue)
    places = [np.where(one == NOT_RANKED, size, one) for one in ranks.values()]
    moves = np.abs(places[1] - places[0])
    quality = [[f"{100 * metric(one, 20).mean():.2f}" for one in ranks.values()] for metric in (ndcg, recall)]
    far = 100 * np.quantile(moves, 0.95) / size
    cells = (paradigm, domain, f"{len(moves):,}", f"{100 * (moves == 0).mean():.0f} %", f"{far:.2f} %")
    return f"| {' | '.join((*cells, *(' → '.join(pair) for pair in quality)))} |"


if __name__ == "__main__":
    main()
