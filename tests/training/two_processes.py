"""The program of the two processes: torchrun starts it, test_two_processes.py reads its output.

Usage: two_processes.py FOLDER. With one process it does the same alone: what the two are measured against.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kits.small import make_backbone, make_item_codes, make_tokenizer, sasrec_recipe, semb_recipe, semid_recipe
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.testing.data import PHASE, make_items
from mmgrid.testing.paradigm import chain_histories
from mmgrid.training.fit import fit

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
# All windows have the same number of targets, so the mean of both processes' means is the overall mean.
HISTORIES = chain_histories(24, 40, 6)
EPOCHS = {"pretrain": 2, "phase1": 1, "phase2": 1}


def pooled_loss(state: PartialState, batch_negatives: bool) -> dict[str, Any]:
    """Mean loss and mean gradient of one global batch of 8 windows, each process with its share of them."""
    recipe = semb_recipe(batch_negatives=batch_negatives)
    paradigm, model = Semb.create(recipe, make_backbone(TOKENIZER), TOKENIZER, seed=0)
    model.train()
    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, seed=0)
    own = range(state.process_index, 8, state.num_processes)
    batch = examples.collate([examples.draw(index, 0) for index in own])
    loss, _ = model(**batch)
    loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    mean = loss.detach().clone()
    if state.num_processes > 1:
        for tensor in [mean, *gradients.values()]:
            torch.distributed.all_reduce(tensor)
            tensor /= state.num_processes
    return {"loss": mean.item(), "negatives": len(batch["negatives"]), "gradients": gradients}


def trained(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The weights that `fit` trains, and the batches that the loss received."""
    if name == "semb":
        recipe = semb_recipe(epochs=EPOCHS)
        paradigm, model = Semb.create(recipe, make_backbone(TOKENIZER), TOKENIZER, seed=0)
    elif name == "semid":
        recipe = semid_recipe(epochs=EPOCHS, every_position=True, mixed_tasks=False, item_group=0)
        backbone = make_backbone(TOKENIZER, head=True)
        paradigm, model = Semid.create(recipe, backbone, TOKENIZER, make_item_codes(40), "kitchen", seed=0)
    else:
        recipe = sasrec_recipe(epochs=EPOCHS, dropout=0.0)
        paradigm, model = Sasrec(recipe.history_length), Sasrec.create(recipe, ITEMS, seed=0)
    wrapped: set[bool] = set()
    sizes: list[int] = []

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        wrapped.add(isinstance(model, DistributedDataParallel))
        # For semid, windows are identified by their answers: five items of three codes each.
        sizes.append(
            len(batch["sequences"] if "sequences" in batch else batch["labels"]) // (15 if name == "semid" else 1)
        )
        return paradigm.loss(model, batch)

    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, seed=0)
    report = fit(model, examples, loss, recipe.training("pretrain"), folder / "steps", seed=0, save_seconds=0)
    facts = {"wrapped": sorted(wrapped), "sizes": sizes, "steps": report.steps, "losses": report.losses}
    return facts, {key: value.detach().clone() for key, value in model.state_dict().items()}


def main(folder: Path) -> None:
    facts: dict[str, Any] = {}
    # fit runs first, so that it must find the number of processes by itself.
    for name in ("semb", "sasrec", "semid"):
        facts[name], weights = trained(name, folder / name)
        facts["steps_of_all"] = sorted(path.name for path in folder.glob("*/steps/*/rng_state*"))
        if PartialState().is_main_process:
            save_file(weights, folder / f"{name}.safetensors")
    state = PartialState()
    facts["processes"] = state.num_processes
    for name, batch_negatives in (("uniform", False), ("batch", True)):
        result = pooled_loss(state, batch_negatives)
        if state.is_main_process:
            save_file(result.pop("gradients"), folder / f"gradients_{name}.safetensors")
        facts[name] = {key: value for key, value in result.items() if key != "gradients"}
    (folder / f"facts_{state.process_index}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    PartialState().destroy_process_group()
