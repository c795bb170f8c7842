"""Trainings that one process does alone, or several together: the work that tests give to both."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from kits.small import make_tokenizer, sasrec_recipe, semb_recipe, semid_recipe, text_recipe, untrained
from mmgrid.paradigms.semb.spec import SembRecipe
from mmgrid.testing.data import PHASE, make_items, random_histories
from mmgrid.testing.paradigm import Interruption
from mmgrid.training.fit import fit
from mmgrid.training.progress import StepProgress
from mmgrid.training.rehearsal import Rehearsal, rehearsed

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
# Windows have different numbers of targets, and the last micro-batch has one example, so that one process has none.
HISTORIES, EARLIER = random_histories(25, 40, longest=7), random_histories(9, 40, seed=1)
ONCE = {"pretrain": 1, "phase1": 1, "phase2": 1}
VALUES = {"epochs": ONCE, "accumulation": 2}


@dataclass
class Trained:
    """What a training did, as one of its processes saw it.

    kinds: of the models that the loss was given. sizes: examples and negatives, for each micro-batch: all negatives of
    the micro-batch, and those that the process encoded. held: the share of its largest weight that a process held.
    """

    losses: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    held: float = 1.0


def start(name: str) -> tuple[Any, Any, nn.Module, Any]:
    """Recipe, paradigm, untrained model and examples; `name` is a paradigm and a variant of it."""
    if name.startswith("semb"):
        values = {"batch_negatives": True, "shared_negatives": True} if name == "semb with batch negatives" else {}
        recipe = semb_recipe(**VALUES, **values)
    elif name == "semid":  # answers of codes and of words
        recipe = semid_recipe(**VALUES, item_group=40, every_position=True, mixed_tasks=False)
    elif name == "text":
        recipe = text_recipe(**VALUES, every_position=True)
    else:
        recipe = sasrec_recipe(**VALUES, dropout=0.0)
    paradigm, model = untrained(recipe, ITEMS, TOKENIZER)
    if isinstance(recipe, SembRecipe):
        model.parts = recipe.parts
        model.rows_at_once = 1 if recipe.parts > 1 else None  # processes have different numbers of rows
    examples: Any = paradigm.examples(HISTORIES, ITEMS, PHASE, seed=0)
    if name == "sasrec with rehearsal":
        examples = Rehearsal(examples, paradigm.examples(EARLIER, ITEMS, PHASE, seed=0), 0.3, seed=0)
    return recipe, paradigm, model, examples


def train(name: str, folder: Path, *, sharded: bool = False, stop_after: int | None = None) -> Trained:
    """Train in `folder`, from the step checkpoint that is there. stop_after: micro-batches, for a training cut short."""
    recipe, paradigm, model, examples = start(name)
    found = Trained()

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        if stop_after is not None and len(found.sizes) == stop_after:
            raise Interruption
        found.kinds |= {one.__name__ for one in type(model).__mro__ if one.__module__.startswith("torch.")}
        found.sizes.append((len(batch.get("log_chance", ())), len(batch.get("negatives", ()))))
        largest = max(model.parameters(), key=lambda one: one.numel())
        if isinstance(largest, DTensor):
            found.held = largest.to_local().numel() / largest.numel()
        return paradigm.loss(model, batch)

    chosen = rehearsed(loss) if isinstance(examples, Rehearsal) else loss
    training = recipe.training("pretrain")
    with suppress(Interruption):
        report = fit(model, examples, chosen, training, folder, seed=0, save_seconds=0, sharded=sharded)
        found.losses = [value for _, _, value in report.losses]
        found.weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
    return found


TOGETHER = (
    ("semb", False),
    ("semb with batch negatives", True),
    ("text", False),
    ("semid", True),
    ("sasrec with rehearsal", False),
)
"""The trainings that two processes do together, and whether they are sharded."""


def train_together(folder: Path, progress: StepProgress | None) -> list[dict[str, Trained]]:
    """All of `TOGETHER`, and what goes on in another number of processes: what each process has seen."""
    torch.set_num_threads(1)
    found = {name: train(name, folder / name, sharded=sharded) for name, sharded in TOGETHER}
    found["gone on"] = train("semid", folder / "begun alone", sharded=True)
    train("semb", folder / "begun together", stop_after=5)
    train("semid", folder / "begun sharded", sharded=True, stop_after=5)
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, found)
    if progress is not None:
        progress(1, 2, 0.5)
    return everyone
