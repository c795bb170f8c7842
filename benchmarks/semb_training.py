"""semb: the speed of a training step, and the effect of each optimisation.

Prints tokens, windows and users per second and peak memory of forward and backward passes over the same batches of
windows (float32, one thread by default). The tokens of each distinct item count once per batch, and padding does not
count. Compares

- `per occurrence, padded`: every item of every window and every negative encoded separately, padded to the longest;
- `distinct, padded` and `per occurrence, packed`: one of two optimisations, encoding each distinct item of a batch once
  or packing many items into a row after one shared prompt;
- `distinct, packed`: both, as in mmgrid.

All four give the same loss. Runs on real data with --corpus (a prepared domain) and --backbone (a folder), else on
synthetic data.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from measuring import backbone, batches_of, compare_steps, domain, options
from mmgrid.data import Phase
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.semb.examples import SembExamples
from mmgrid.paradigms.semb.model import SembModel
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.semb.spec import SembRecipe
from mmgrid.paradigms.shared.packing import TokenTable, pack

LayOut = Callable[[TokenTable, np.ndarray], dict[str, Tensor]]
Drawn = Sequence[tuple[np.ndarray, int, np.ndarray]]


def main() -> None:
    given = options(__doc__).parse_args()
    torch.set_num_threads(given.threads)
    items, histories = domain(given.corpus)
    recipe = PARADIGMS["semb"].resolve({}, backbone_kind="tiny", history_length=25)
    assert isinstance(recipe, SembRecipe)
    model, tokenizer = backbone(given.backbone, items, head=False)
    semb, semb_model = Semb.create(recipe, model, tokenizer, 0)
    examples = semb.examples(histories, items, Phase("pretrain", 0, histories.end), seed=0)
    batches = batches_of(examples, recipe.batch_size, given.batches)
    distinct = [np.unique(occurrences(batch)) for batch in batches]
    tokens = sum(int((examples.table.lengths(each) + 1).sum()) for each in distinct)
    shown = sum(len(occurrences(batch)) for batch in batches) / len(batches)
    print(
        f"torch {torch.__version__}, {given.threads} thread(s), batches of {recipe.batch_size} windows: "
        f"{shown:.0f} items, {np.mean([len(each) for each in distinct]):.0f} distinct\n"
    )
    ways: dict[str, Callable[[SembModel, Drawn], Tensor]] = {
        "per occurrence, padded": partial(_loss, semb, lambda batch: per_occurrence(examples, batch, padded)),
        "distinct, padded": partial(_loss, semb, lambda batch: padded_distinct(examples, batch)),
        "per occurrence, packed": partial(_loss, semb, lambda batch: per_occurrence(examples, batch, packed)),
        "distinct, packed (mmgrid)": partial(_loss, semb, examples.collate),
    }
    users = int((histories.lengths >= 2).sum()) / len(examples)
    compare_steps(semb_model, batches, ways, tokens=tokens, users=users, repeats=given.repeats)


def _loss(semb: Semb, collate: Callable[[Drawn], dict[str, Any]], model: SembModel, batch: Drawn) -> Tensor:
    return semb.loss(model, collate(batch))


def occurrences(batch: Drawn) -> np.ndarray:
    """Item rows of all windows, then of all negatives, with repetitions."""
    sequences, _, negatives = zip(*batch, strict=True)
    return np.concatenate([*sequences, *negatives])


def padded_distinct(examples: SembExamples, batch: Drawn) -> dict[str, Tensor]:
    return examples.collate(batch) | padded(examples.table, np.unique(occurrences(batch)))


def per_occurrence(examples: SembExamples, batch: Drawn, lay_out: LayOut) -> dict[str, Tensor]:
    """The same batch with a vector for each occurrence; a negative refers to the first occurrence of its item."""
    plain, rows = examples.collate(batch), occurrences(batch)
    _, first = np.unique(rows, return_index=True)
    lengths = [len(sequence) for sequence, *_ in batch]
    sequences = torch.zeros_like(plain["sequences"])
    places = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
    for row, place in enumerate(places):
        sequences[row, : len(place)] = torch.from_numpy(place)
    negatives = torch.from_numpy(first)[plain["negatives"]]
    return plain | lay_out(examples.table, rows) | {"sequences": sequences, "negatives": negatives}


def packed(table: TokenTable, items: np.ndarray) -> dict[str, Tensor]:
    return pack(table, items).tensors()


def padded(table: TokenTable, items: np.ndarray) -> dict[str, Tensor]:
    """One row per item, with its prompt, padded at the end: as `pack` with one item per row."""
    lengths = table.lengths(items) + 1
    prompt = len(table.prompt)
    width = prompt + int(lengths.max())
    ids = np.zeros((len(items), width), np.int64)
    segments = np.where(np.arange(width) < prompt, 0, np.where(np.arange(width) < prompt + lengths[:, None], 1, -1))
    ids[:, :prompt] = table.prompt
    for row, item in enumerate(items):
        text = table.tokens[table.offsets[item] : table.offsets[item + 1]]
        ids[row, prompt : prompt + len(text)] = text
    positions = np.broadcast_to(np.arange(width), ids.shape).copy()
    places = np.arange(len(items)) * width + prompt + lengths - 1
    arrays = {"input_ids": ids, "position_ids": positions, "segments": segments, "item_places": places}
    return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}


if __name__ == "__main__":
    main()
