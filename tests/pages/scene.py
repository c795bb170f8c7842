"""The folder in which the blocks of a page run: a small stand-in for what a reader of the page has.

The grid of the demo is replaced by the tiny grid of the tests, whose third domain is `attic`; ids and fingerprints that a
page shows are replaced by those of the tiny grid.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kits.tiny_grid import Built
from mmgrid.merging import merge

RECIPE = """\
method: ties
base: models/base
sources:
  - {name: garden, path: models/garden, weight: 0.5}
  - {name: kitchen, path: models/kitchen, weight: 0.5}
"""
MERGEKIT = """\
merge_method: linear
models:
  - {model: models/garden, parameters: {weight: 0.5}}
  - {model: models/kitchen, parameters: {weight: 0.5}}
dtype: float32
"""


@dataclass(frozen=True)
class Scene:
    """A folder, and the words of pages that mean something else in it."""

    folder: Path
    words: Mapping[str, str]

    def says(self, text: str) -> str:
        """The text with this scene's domains, ids and fingerprints."""
        for word, here in self.words.items():
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", here, text)
        return text


def set_scene(studied: Built, folder: Path) -> Scene:
    """Fills `folder` with a grid and its store, model folders, recipes and data."""
    folder.mkdir(parents=True)
    shutil.copytree(studied.root, folder / "runs")
    for name in ("grids/demo.toml", "grid.toml", "my-grid.toml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(studied.file, folder / name)
    _models(studied, folder)
    for name in ("recipe.yml", "RECIPE.yml"):
        (folder / name).write_text(RECIPE)
    for name in ("config.yml", "CONFIG.yml"):
        (folder / name).write_text(MERGEKIT)
    merge(folder / "recipe.yml", folder / "merged")
    for name in ("data/garden", "raw"):
        shutil.copytree(studied.folder("corpus/garden"), folder / name)
    (folder / "data/books").mkdir()
    clicks = pl.DataFrame({"customer": [7, 7, 8], "product": [1, 2, 1], "seconds": [1_700_000_000, 1_700_000_001, 1]})
    clicks.write_csv(folder / "my-clicks.csv")
    attic, garden = (_items(studied, domain) for domain in ("attic", "garden"))
    words = {"games": "attic", "0944f0db": studied.folder("checkpoint/semb/garden/phase2").name}
    words |= dict(zip(("B0AOMH2LBV", "B0ZRPAEVJA", "B052XQNB4Q"), attic, strict=False))
    words |= {"--min-date 2008-07-01": "--min-date 2017-07-01", "--max-date 2014-04-01": "--max-date 2023-04-01"}
    words |= dict(zip(("ITEM1", "ITEM2", "ITEM3"), garden, strict=False))
    return Scene(folder, words)


def names_of(scene: Scene) -> dict[str, Any]:
    """What Python blocks take for granted: models, a direction, vectors."""
    from transformers import AutoModel

    import mmgrid  # noqa: F401 - it registers the architectures

    models = {name: AutoModel.from_pretrained(scene.folder / "models" / name) for name in ("base", "garden", "kitchen")}
    base, garden = (models[name].state_dict() for name in ("base", "garden"))
    return models | {
        "__name__": "__main__",
        "np": np,
        "vectors": np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32),
        "model": AutoModel.from_pretrained(scene.folder / "models/base"),
        "direction": {name: garden[name] - base[name] for name in base},
        "evaluate": lambda model: None,
    }


def _models(studied: Built, folder: Path) -> None:
    cells = {
        "base": "base/semb",
        "garden": "checkpoint/semb/garden/phase2",
        "kitchen": "checkpoint/semb/kitchen/phase2",
        "other": "checkpoint/semb/garden/phase1",
        "semb-garden": "checkpoint/semb/garden/phase2",
        "books-2022q3": "checkpoint/semb/garden/phase1",
        "books-2022q4": "checkpoint/semb/garden/phase2",
    }
    for name, cell in cells.items():
        shutil.copytree(studied.folder(cell), folder / "models" / name)
    for name, model in {
        "base": "base",
        "garden": "garden",
        "kitchen": "kitchen",
        "A": "garden",
        "B": "kitchen",
        "C": "kitchen",
        "PRETRAIN": "base",
    }.items():
        shutil.copytree(folder / "models" / model, folder / name)


def _items(studied: Built, domain: str) -> list[str]:
    table = pl.read_parquet(studied.folder(f"corpus/{domain}") / "items.parquet", glob=False)
    return table["item_id"].head(3).to_list()
