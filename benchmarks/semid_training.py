"""semid: the speed of a training step, and the effect of each optimisation.

Prints tokens, examples and users per second and peak memory of forward and backward passes over the same batches
(float32, one thread by default; padding does not count) for

- `padded, all logits`: one row per example, padded to the longest, and logits of all tokens at all positions;
- `padded, logits of answers` and `packed, all logits`: one of two optimisations;
- `packed, logits of answers`: both, as in mmgrid, with logits of code tokens only within their level;

and the targets per second of the task codes to codes with

- `one example a target`: as in LC-Rec;
- `all of a window at once`: `every_position`.

Runs on real data with --corpus (a prepared domain) and --backbone (a folder), else on synthetic data.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from measuring import backbone, batches_of, best_times, compare_steps, domain, options, step
from mmgrid.data import Histories, Items, Phase
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.paradigms.semid.spec import SemidRecipe
from mmgrid.paradigms.semid.tasks import SemidExamples
from mmgrid.paradigms.shared.dialogues import Dialogue, collate
from mmgrid.paradigms.shared.packing import attention_mask, mask_for
from mmgrid.semantic_ids.item_codes import ItemCodes
from text_training import padded

LEVELS, CODES = 4, 256


def main() -> None:
    given = options(__doc__).parse_args()
    torch.set_num_threads(given.threads)
    items, histories = domain(given.corpus)
    model, tokenizer = backbone(given.backbone, items)
    recipe = PARADIGMS["semid"].resolve({"every_position": False}, backbone_kind="tiny", history_length=25)
    assert isinstance(recipe, SemidRecipe)
    codes = ItemCodes(np.random.default_rng(0).integers(0, CODES, (len(items), LEVELS), dtype=np.int32), CODES)
    semid, model = Semid.create(recipe, model, tokenizer, codes, "benchmark", seed=0)
    print(f"torch {torch.__version__}, {given.threads} thread(s), vocabulary {model.config.vocab_size}\n")
    compare_training(semid, model, items, histories, given)
    compare_targets(semid, model, items, histories, given)


def compare_training(
    semid: Semid, model: PreTrainedModel, items: Items, histories: Histories, given: argparse.Namespace
) -> None:
    examples = examples_of(semid, items, histories)
    batches = batches_of(examples, semid.recipe.batch_size, given.batches)
    n_tokens = sum(len(dialogue) for batch in batches for dialogue in batch)
    n_places = sum(len(batch) * max(map(len, batch)) for batch in batches)
    n_answers = sum(int(dialogue.is_answer.sum()) for batch in batches for dialogue in batch)
    print(f"{n_tokens} tokens, {n_answers} of them in answers; {n_places} positions padded\n")
    ways: dict[str, Callable[[PreTrainedModel, Sequence[Dialogue]], Tensor]] = {
        "padded, all logits": partial(padded_loss, semid, everywhere=True),
        "padded, logits of answers": partial(padded_loss, semid, everywhere=False),
        "packed, all logits": partial(packed_all, semid),
        "packed, logits of answers (mmgrid)": lambda model, batch: semid.loss(model, collate(batch)),
    }
    users = len(np.unique(examples.targets.users)) / len(examples)
    compare_steps(model, batches, ways, tokens=n_tokens, users=users, repeats=given.repeats)


def compare_targets(
    semid: Semid, model: PreTrainedModel, items: Items, histories: Histories, given: argparse.Namespace
) -> None:
    for name, every in (("one example a target", False), ("all of a window at once", True)):
        changes = {"every_position": every, "mixed_tasks": False, "item_group": 0}
        recipe = semid.recipe.model_copy(update=changes)
        other = Semid(semid.config | changes, semid.tokenizer, semid.codes, recipe)
        batches = batches_of(examples_of(other, items, histories), recipe.batch_size, given.batches)
        targets = sum(int(dialogue.is_answer.sum()) for batch in batches for dialogue in batch) / LEVELS
        seconds = best_times({name: step(model, batches, lambda m, b: other.loss(m, collate(b)))}, given.repeats)  # noqa: B023
        print(f"codes to codes, {name}: {targets / seconds[name]:,.0f} targets per second")


def examples_of(semid: Semid, items: Items, histories: Histories) -> SemidExamples:
    return semid.examples(histories, items, Phase("pretrain", 0, histories.end), seed=0)


def padded_loss(semid: Semid, model: PreTrainedModel, batch: Sequence[Dialogue], *, everywhere: bool) -> Tensor:
    ids, mask, labels = padded(batch)
    learned = labels[:, 1:] >= 0
    if everywhere:
        found = model(ids, attention_mask=mask, use_cache=False).logits[:, :-1][learned]
        return weighted(semid, found, labels[:, 1:][learned])
    hidden = model.get_decoder()(ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1][learned]
    return weighted(semid, model.get_output_embeddings()(hidden), labels[:, 1:][learned])


def packed_all(semid: Semid, model: PreTrainedModel, batch: Sequence[Dialogue]) -> Tensor:
    rows: dict[str, Any] = collate(batch)
    mask = mask_for(attention_mask(rows["segments"]), model.config, model.dtype)
    positions = rows["position_ids"]
    found = model(rows["input_ids"], attention_mask=mask, position_ids=positions, use_cache=False).logits
    return weighted(semid, found.flatten(0, 1)[rows["places"]], rows["labels"])


def weighted(semid: Semid, found: Tensor, labels: Tensor) -> Tensor:
    """The loss of semid, computed from the logits of all tokens."""
    first, weight = semid.config["first_token"], semid.recipe.code_weight
    code = labels - first
    is_code = code >= 0
    levels = found[is_code][:, first:].view(-1, LEVELS, CODES)
    own = levels[torch.arange(len(levels)), code[is_code] // CODES]
    codes = F.cross_entropy(own, code[is_code] % CODES, reduction="sum")
    words = F.cross_entropy(found[~is_code], labels[~is_code], reduction="sum")
    return (weight * codes + words) / (weight * is_code.sum() + (~is_code).sum())


if __name__ == "__main__":
    main()
