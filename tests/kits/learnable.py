"""Two domains to learn from: small models that move away from one base, and their data in folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from kits.small import (
    make_backbone,
    make_item_codes,
    make_tokenizer,
    sasrec_recipe,
    semb_recipe,
    semid_recipe,
    text_recipe,
    untrained,
)
from mmgrid.data import Corpus, Histories, Items
from mmgrid.learning import LearningDomain
from mmgrid.paradigms import Recommender
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.testing.data import PHASE, make_items
from mmgrid.testing.paradigm import chain_histories
from mmgrid.training.fit import fit

N_ITEMS, N_USERS = 24, 20
NAMES = ("garden", "kitchen")


@dataclass(frozen=True)
class Sources:
    """A base, two sources and their data: folders."""

    base: Path
    models: dict[str, Path]
    data: dict[str, Path]

    @property
    def recipe(self) -> dict[str, Any]:
        named = [{"name": name, "path": str(path)} for name, path in self.models.items()]
        return {"method": "task_arithmetic", "base": str(self.base), "sources": named}

    @property
    def domains(self) -> dict[str, LearningDomain]:
        return {name: LearningDomain(Recommender(path), self.data[name]) for name, path in self.models.items()}


def save_data(folder: Path, name: str, items: Items, histories: Histories) -> Path:
    """A prepared domain."""
    users = np.repeat(histories.users, histories.lengths)
    table = pl.DataFrame(
        {
            "user_id": [f"u{user:03d}" for user in users],
            "item_id": [str(items.ids[item]) for item in histories.items],
            "timestamp": histories.timestamps,
        }
    )
    Corpus.from_tables(name, table, items.table()).save(folder)
    return folder


def moved(model: nn.Module, seed: int, size: float) -> None:
    """Random steps of all parameters, relative to their own spread."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += size * torch.randn(weight.shape, generator=draw) * (weight.std() if weight.numel() > 1 else 0.1)


def make(paradigm: str, items: Items, domain: str) -> tuple[Paradigm, nn.Module]:
    """An untrained model, the same for both domains but for the token rows of semid."""
    recipes = {
        "sasrec": sasrec_recipe(hidden_size=8, intermediate_size=8, layers=1, heads=1),
        "semb": semb_recipe(),
        "text": text_recipe(),
        "semid": semid_recipe(beam_width=4),
    }
    codes = make_item_codes(len(items), levels=2, codes=6 if domain == "garden" else 5)
    layers = 2 if paradigm == "semb" else 1
    return untrained(recipes[paradigm], items, make_tokenizer(items), block=domain, codes=codes, layers=layers)


def write_base(paradigm: str, items: Items, folder: Path) -> Path:
    folder.mkdir()
    if paradigm == "semid":
        make_backbone(make_tokenizer(items), layers=1, head=True).save_pretrained(folder)
        make_tokenizer(items).save_pretrained(folder)
    else:
        own, model = make(paradigm, items, "garden")
        own.save(model, folder)
    return folder


def make_sources(paradigm: str, folder: Path) -> Sources:
    """Sources that moved a little from the base, in random directions."""
    items = make_items(N_ITEMS)
    models, data = {}, {}
    for seed, name in enumerate(NAMES):
        own, model = make(paradigm, items, name)
        moved(model, seed, 0.3)
        models[name] = folder / name
        models[name].mkdir()
        own.save(model, models[name])
        data[name] = save_data(folder / f"{name}-data", name, items, chain_histories(N_USERS, N_ITEMS, 5))
    return Sources(write_base(paradigm, items, folder / "base"), models, data)


def make_trained(folder: Path) -> Sources:
    """SASRec: garden learned that item i + 1 follows item i; kitchen is noise of about the same size."""
    items, histories = make_items(N_ITEMS), chain_histories(N_USERS, N_ITEMS, 8)
    base = write_base("sasrec", items, folder / "base")
    recipe = sasrec_recipe(hidden_size=8, intermediate_size=8, layers=1, heads=1, dropout=0.0)
    models, data = {}, {}
    for name in NAMES:
        own, model = Sasrec(recipe.history_length), Sasrec.create(recipe, items, seed=0)
        if name == "garden":
            training = recipe.training("pretrain").model_copy(update={"epochs": 40, "learning_rate": 2e-2})
            fit(model, own.examples(histories, items, PHASE, 0), own.loss, training, folder / "steps", seed=0)
        else:
            moved(model, 3, 8.0)
        models[name] = folder / name
        models[name].mkdir()
        own.save(model, models[name])
        data[name] = save_data(folder / f"{name}-data", name, items, histories)
    return Sources(base, models, data)
