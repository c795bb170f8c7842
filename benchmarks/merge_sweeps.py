"""The cost of sweeps: λ on a live model compared with evaluations alone, and eleven α from one pass over the sources.

python benchmarks/merge_sweeps.py [--folder DIR]
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from merge_models import make_models
from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.tiny import create, train_tokenizer
from mmgrid.data import Histories, Items
from mmgrid.data.synthetic import World, WorldDomain, simulate
from mmgrid.merging import Change, Line, merge, sweep
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.semb.paradigm import Semb

SCALES = np.linspace(-0.5, 1.5, 21).tolist()
ALPHAS = np.linspace(0, 1, 11).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mmgrid-merge-models")
    parser.add_argument("--size", default="0.15B")
    options = parser.parse_args()
    live()
    on_disk(options.folder, options.size)


def live() -> None:
    """Times 21 evaluations of a semb model (1.8 million parameters, ranks of 500 users), with and without moving it."""
    torch.set_num_threads(1)
    texts = simulate(World((WorldDomain("kitchen", users=600, items=2000),)), "kitchen").titles
    tokenizer = train_tokenizer(texts, 8192)
    recipe = PARADIGMS["semb"].resolve({}, backbone_kind="tiny", history_length=25)
    backbone = create(TinyRecipe(), tokenizer, 0).model
    paradigm, model = Semb.create(recipe, backbone, tokenizer, 0)
    n_items, n_users = len(texts), 500
    ids = np.array([f"{n:06}" for n in range(n_items)])
    items = Items(ids, list(texts), [""] * n_items, np.arange(n_items))
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(5, 25, n_users))])
    n = int(offsets[-1])
    rows = rng.integers(n_items, size=n).astype(np.int32)
    histories = Histories(np.arange(n_users), offsets, rows, np.arange(n), n)
    targets = rng.integers(n_items, size=n_users)
    direction = {name: torch.randn_like(weight) * 1e-3 for name, weight in model.named_parameters()}
    line = Line(model, direction)

    def evaluate() -> None:
        paradigm.rank(model, histories, items, targets)

    evaluate()
    alone, moved = [], []
    for scale in SCALES:  # in turns, so that load on the machine affects both
        start = time.perf_counter()
        evaluate()
        between = time.perf_counter()
        line.at(scale)
        evaluate()
        alone.append(between - start)
        moved.append(time.perf_counter() - between)
    start = time.perf_counter()
    for scale in SCALES:
        line.at(scale)
    moving = time.perf_counter() - start
    print(
        f"21 evaluations: {sum(alone):.2f} s; with a move to λ before each: {sum(moved):.2f} s; "
        f"moves alone: {moving:.3f} s, {moving / sum(alone):.2%} of the evaluations.\n"
    )


def on_disk(folder: Path, size: str) -> None:
    models = make_models(folder, size, ["base", "a", "b"])
    recipe = {
        "method": "ties",
        "options": {"preset": "subspace"},
        "sources": [{"name": name, "path": str(models[name])} for name in ("a", "b")],
        "base": str(models["base"]),
    }
    outs = {folder / f"alpha-{alpha:.1f}": Change(weights={"a": alpha, "b": 1 - alpha}) for alpha in ALPHAS}
    clear(outs)
    start = time.perf_counter()
    sweep(recipe, outs, digests=False)
    together = time.perf_counter() - start
    clear(outs)
    start = time.perf_counter()
    for out, change in outs.items():
        weights = change.weights or {}
        sources = [source | {"weight": weights[source["name"]]} for source in recipe["sources"]]
        merge(recipe | {"sources": sources}, out, digests=False)
    apart = time.perf_counter() - start
    clear(outs)
    print(f"Qwen3 {size}, 11 α of the preset `subspace`: one sweep {together:.1f} s, eleven merges {apart:.1f} s")
    print(f"({apart / together:.1f}×).")


def clear(outs) -> None:
    for out in outs:
        shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
