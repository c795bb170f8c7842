"""What text has to compute."""

from __future__ import annotations

from typing import Any

from mmgrid.backbone.shape import Shape
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import LONG, MicroBatch, Tower
from mmgrid.paradigms.work import EXAMPLE_SECONDS, WEIGHT_BYTES, Work, training

FRAME = 30.0  # tokens of the instruction and of the chat around it
LABELS = 4.0  # tokens beside an item's texts in a history
USERS_AT_ONCE = 32  # whose titles are generated together
CALLS_PER_TOKEN = 1200.0  # operations of a step of beam search beside the layers'


def item_tokens(values: Any, counts: Counts) -> float:
    """Tokens of an item in a history."""
    return min(values.text_tokens, counts.text_tokens) + LABELS


def title_tokens(values: Any, counts: Counts) -> float:
    """Tokens of an answer."""
    return min(values.title_tokens, counts.title_tokens) + 1


def example(values: Any, phase: str, counts: Counts) -> tuple[float, float, float]:
    """Examples of an epoch, tokens of one, and tokens of its answers."""
    item, title = item_tokens(values, counts), title_tokens(values, counts)
    if values.every_position:
        windows = counts.windows(phase, values.history_length)
        return (
            windows,
            FRAME + counts.window_items(phase, values.history_length) * item,
            (counts.trained(phase) / windows * title),
        )
    most = values.targets_per_user if phase == "pretrain" else None
    context = counts.context(phase, values.history_length)
    return counts.targets(phase, most), FRAME + context * item + title, title


def training_work(values: Any, phase: str, counts: Counts, shape: Shape, recomputed: bool) -> Work:
    """The dialogues, with logits of their answers."""
    examples, tokens, answers = example(values, phase, counts)
    flops = shape.forward(tokens, max(tokens, 256)) + shape.head(answers)
    return training(
        values,
        examples=examples,
        flops=flops,
        layers=shape.layers,
        weights=shape.weights,
        shape=shape,
        recomputed=recomputed,
    )


def evaluation_work(values: Any, users: float, counts: Counts, shape: Shape, embedder: Shape) -> Work:
    """Titles by beam search, embedded by `embedder` and compared with those of all items."""
    title = title_tokens(values, counts)
    prompt = FRAME + counts.context("test", values.history_length) * item_tokens(values, counts)
    answers = values.titles * title
    flops = shape.forward(prompt + answers, prompt) + shape.head(answers + 1)
    flops += embedder.forward(answers, title) + 2 * values.titles * counts.items * embedder.hidden
    steps = users / USERS_AT_ONCE * (title + 1)
    return Work(
        flops=users * flops,
        bytes=steps * shape.weights * WEIGHT_BYTES,
        calls=steps * (shape.layers * 40 + CALLS_PER_TOKEN),
        seconds=users * EXAMPLE_SECONDS * 10,
    )


def batch(values: Any, phase: str, counts: Counts, shape: Shape) -> MicroBatch:
    """The largest micro-batch of packed dialogues."""
    item = min(values.text_tokens, LONG * counts.text_tokens) + LABELS
    title = min(values.title_tokens, LONG * counts.title_tokens) + 1
    size, length = values.batch_size / values.accumulation, values.history_length
    tokens = FRAME + length * item + title
    answers = title * (length if values.every_position else 1)
    return MicroBatch((Tower(shape.layers, size * tokens),), size * answers * shape.vocabulary)
