"""What a training step at Qwen3-0.6B's widths holds for its backward pass, before and after each way to hold less.

Nothing is trained: the batches are the largest that the recipes' defaults allow (every text fills its tokens, no item
twice), packed as in training. What one layer keeps of a token is measured by hooks on saved tensors, with shapes alone,
and compared with a count by hand.

    python benchmarks/activations.py [--precision bf16] [--rows-at-once 64]
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import Qwen3Config, Qwen3Model

from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.shared.dialogues import Dialogue, collate
from mmgrid.paradigms.shared.packing import TokenTable, pack
from mmgrid.paradigms.shared.sliced_loss import LARGEST_LOGITS
from mmgrid.training.activations import keeping

WIDTH, HEADS, KEYS, INNER, LAYERS, VOCABULARY = 1024, 16 * 128, 8 * 128, 3072, 28, 151_936  # Qwen3-0.6B
PROMPT = 10  # tokens before an item of semb
FRAME = 40  # tokens of an instruction and the chat template around it
LEVELS = 4
GIB = 1 << 30


@dataclass(frozen=True)
class Step:
    """The shape of a batch's packed rows, and its answers' tokens with a softmax over all tokens."""

    rows: int
    width: int
    words: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="bf16")
    parser.add_argument("--rows-at-once", type=int, default=64, help="of semb")
    given = parser.parse_args()
    steps = {"semb": semb(), "semid, titles to codes": semid_titles(), "semid, items": semid_items(), "text": text()}
    print(f"torch {torch.__version__}, {given.precision}\n")
    print("| rows of | KiB that a layer keeps of a token, measured | counted |\n|---:|---:|---:|")
    kept = {step.width: of_a_token(step.width, given.precision) for step in steps.values()}
    for width, size in sorted(kept.items()):
        print(f"| {width:,} tokens | {size / 1024:.1f} | {counted(width, given.precision) / 1024:.1f} |")
    of_a_logit = of_logits()
    print(
        f"\nof a logit: {of_a_logit:.0f} bytes\n\n| step | tokens | answers | before | recomputed | in parts | both |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, step in steps.items():
        at_once = min(step.rows, given.rows_at_once) if name == "semb" else step.rows
        logits = step.words * VOCABULARY * of_a_logit
        slices = min(logits, LARGEST_LOGITS * of_a_logit)
        tokens, some = step.rows * step.width, at_once * step.width
        again = LAYERS * WIDTH * 4 + kept[step.width]  # the inputs of all layers, and all of one layer
        plain = LAYERS * kept[step.width]
        sizes = (tokens * plain + logits, tokens * again + logits, some * plain + slices, some * again + slices)
        print(f"| {name} | {tokens:,} | {step.words:,} | {' | '.join(f'{size / GIB:.1f} GiB' for size in sizes)} |")


def of_a_token(width: int, precision: str) -> float:
    """Bytes that a decoder layer keeps of a token in rows of this width: what a second row adds in a second layer."""
    one, two = ([_kept(layers, rows, width, precision) for rows in (1, 2)] for layers in (1, 2))
    return ((two[1] - two[0]) - (one[1] - one[0])) / width


def _kept(layers: int, rows: int, width: int, precision: str) -> int:
    config = Qwen3Config(
        vocab_size=8,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        pad_token_id=None,
    )
    with FakeTensorMode():
        model = Qwen3Model(config).train()
        batch = {
            "inputs_embeds": torch.empty(rows, width, WIDTH, requires_grad=True),
            "attention_mask": torch.ones(rows, 1, width, width, dtype=torch.bool),
            "position_ids": torch.zeros(rows, width, dtype=torch.long),
        }
        with keeping(model.parameters()) as kept, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            last = model(**batch, use_cache=False).last_hidden_state
        del last
    return kept.bytes


def counted(width: int, precision: str) -> int:
    """The same by hand: inputs and normalised values of four norms; what the linear layers read; queries, keys and
    values, each for all heads; the attention's result and its mask; gate, its SiLU, the other half, their product.
    """
    small = 4 * (2 + HEADS // 128 * 2 + KEYS // 128)  # root mean squares, and the softmax's normaliser
    if precision == "float32":
        return 4 * (6 * WIDTH + 6 * HEADS + 2 * KEYS + 4 * INNER + width) + small
    in_full = 4 * WIDTH + HEADS + KEYS  # norms are computed in float32
    in_half = 5 * WIDTH + 5 * HEADS + KEYS + 4 * INNER + width  # each linear layer keeps a rounded copy of its own
    return 4 * in_full + 2 * in_half + small


def of_logits(places: int = 64, vocabulary: int = 4096) -> float:
    """Bytes that a cross-entropy keeps of each logit."""
    logits = torch.zeros(places, vocabulary, dtype=torch.bfloat16, requires_grad=True)
    with keeping() as kept:
        F.cross_entropy(logits.float(), torch.zeros(places, dtype=torch.long))
    return kept.bytes / logits.numel()


def semb() -> Step:
    """All items of 16 windows, and the negatives."""
    recipe = _recipe("semb")
    items = recipe.batch_size * (recipe.history_length + 1) + recipe.negatives
    table = TokenTable.of([0] * PROMPT, [[0] * recipe.text_tokens] * items)
    return Step(*pack(table, np.arange(items)).input_ids.shape)


def text() -> Step:
    """A history of whole texts, each behind its label, and a whole title."""
    recipe = _recipe("text")
    return _step(
        recipe, (FRAME + recipe.history_length * (recipe.text_tokens + 3), recipe.title_tokens + 1), words=True
    )


def semid_titles() -> Step:
    """A history of titles, and the codes of the next item."""
    recipe = _recipe("semid")
    return _step(recipe, (FRAME + recipe.history_length * (recipe.title_tokens + 1), LEVELS), words=False)


def semid_items() -> Step:
    """Codes, and the title and description of their item, in turns."""
    recipe = _recipe("semid")
    turn = FRAME // 2 + LEVELS, recipe.title_tokens + recipe.text_tokens + 2
    return _step(recipe, *[turn] * recipe.item_group, words=True)


def _step(recipe, *turns: tuple[int, int], words: bool) -> Step:
    one = Dialogue.of(*(([0] * question, [0] * answer) for question, answer in turns))
    batch = collate([one] * recipe.batch_size)
    return Step(*batch["input_ids"].shape, len(batch["labels"]) if words else 0)


def _recipe(paradigm: str):
    return PARADIGMS[paradigm].resolve({}, backbone_kind="pretrained")


if __name__ == "__main__":
    main()
