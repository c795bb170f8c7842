"""What semid has to compute."""

from __future__ import annotations

from typing import Any

from mmgrid.backbone.shape import Shape
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import LONG, MicroBatch, Tower
from mmgrid.paradigms.work import EXAMPLE_SECONDS, WEIGHT_BYTES, Work, training

FRAME = 30.0  # tokens of the question and of the chat around it
LEVELS = 4  # code tokens of an item
CODES = 1024  # of all levels
USERS_AT_ONCE = 8


def examples(values: Any, phase: str, counts: Counts) -> list[tuple[float, float, float, float]]:
    """Kinds of examples: how many an epoch has, tokens of one, its answers' words, and its answers' codes."""
    title = min(values.title_tokens, counts.title_tokens) + 1
    described = min(values.text_tokens, max(counts.text_tokens - counts.title_tokens, 0.0)) + 1
    most = values.targets_per_user if phase == "pretrain" else None
    targets, context = counts.targets(phase, most), counts.context(phase, values.history_length)
    if values.every_position:
        windows = counts.windows(phase, values.history_length)
        codes = counts.trained(phase) / windows * LEVELS
        found = [(windows, FRAME + counts.window_items(phase, values.history_length) * LEVELS, 0.0, codes)]
    else:
        found = [(targets, FRAME + (context + 1) * LEVELS, 0.0, float(LEVELS))]
    if values.mixed_tasks:
        found.append((targets / 2, FRAME + context * LEVELS + title, title, 0.0))
        found.append((targets / 2, FRAME + context * title + LEVELS, 0.0, float(LEVELS)))
    if values.item_group:
        share = 1.0 if phase in ("pretrain", "all") else values.replay
        groups, size = share * counts.items / values.item_group, values.item_group
        told = size * (FRAME / 2 + LEVELS + title + described)
        found.append((groups, told, size * (title + described), 0.0))
        found.append((groups, told, 0.0, float(size * LEVELS)))
    return found


def training_work(values: Any, phase: str, counts: Counts, shape: Shape, recomputed: bool) -> Work:
    """All kinds of `examples`; code tokens are scored among the codes, words among the whole vocabulary."""
    kinds = examples(values, phase, counts)
    total = sum(number for number, *_ in kinds)
    flops = sum(
        number * (shape.forward(tokens, max(tokens, 256)) + shape.head(words) + shape.head(codes, CODES))
        for number, tokens, words, codes in kinds
    )
    return training(
        values,
        examples=total,
        flops=flops / total,
        layers=shape.layers,
        weights=shape.weights,
        shape=shape,
        recomputed=recomputed,
    )


def evaluation_work(values: Any, users: float, counts: Counts, shape: Shape) -> Work:
    """A beam search over the codes of a domain."""
    prompt = FRAME + counts.context("test", values.history_length) * LEVELS
    beams = values.beam_width * (LEVELS - 1) + 1
    blocks = users / USERS_AT_ONCE
    return Work(
        flops=users * (shape.forward(prompt + beams, prompt) + shape.head(beams, CODES)),
        bytes=blocks * LEVELS * shape.body_weights * WEIGHT_BYTES,
        calls=blocks * LEVELS * shape.layers * 60,
        seconds=users * EXAMPLE_SECONDS * 10,
    )


def batch(values: Any, phase: str, counts: Counts, shape: Shape) -> MicroBatch:
    """The largest micro-batch of packed dialogues: all of the kind that has most tokens, or most words to answer."""
    title = min(values.title_tokens, LONG * counts.title_tokens) + 1
    described = min(values.text_tokens, LONG * max(counts.text_tokens - counts.title_tokens, 0.0)) + 1
    size, length, told = values.batch_size / values.accumulation, values.history_length, values.item_group
    tokens, words = FRAME + (length + 1) * LEVELS, 0.0
    if values.mixed_tasks:
        tokens, words = max(tokens, FRAME + length * title + LEVELS), title
    if told:
        tokens = max(tokens, told * (FRAME / 2 + LEVELS + title + described))
        words = max(words, told * (title + described))
    codes = float(max(LEVELS * (length if values.every_position else 1), LEVELS * told))
    return MicroBatch(
        (Tower(shape.layers, size * tokens),), size * words * shape.vocabulary, other=size * codes * CODES * 4
    )
