"""What semb has to compute."""

from __future__ import annotations

import math
from typing import Any

from mmgrid.backbone.shape import Shape
from mmgrid.data.counts import Counts
from mmgrid.paradigms.micro_batch import LONG, Batch, Tower
from mmgrid.paradigms.work import EXAMPLE_SECONDS, Work, training

PROMPT, ROW = 10.0, 128.0  # tokens before the items of a row, and of a row
USER_LAYERS = 2


def item_tokens(values: Any, counts: Counts) -> float:
    """Places of a packed row for each item: its tokens, and its share of the prompt and of what stays empty."""
    return _places(min(values.text_tokens, counts.text_tokens) + 1, whole=counts.text_tokens >= values.text_tokens)


def _places(alone: float, *, whole: bool) -> float:
    """whole: whether all items are as long as this one, so that none fills what another leaves; rows end with them."""
    row = max(ROW, PROMPT + alone)
    room = (row - PROMPT) / alone
    return PROMPT / (room // 1) + alone if whole else row / room


def distinct(drawn: float, among: float) -> float:
    """Different ones of so many draws."""
    return among * -math.expm1(-drawn / among)


def batch_items(values: Any, phase: str, counts: Counts) -> float:
    """Different items that are encoded for a micro-batch."""
    negatives = values.negatives
    windows = values.batch_size / values.accumulation * counts.window_items(phase, values.history_length)
    return distinct(windows + negatives, max(counts.items, 1.0))


def training_work(values: Any, phase: str, counts: Counts, shape: Shape, recomputed: bool) -> Work:
    items, length = batch_items(values, phase, counts), counts.window_items(phase, values.history_length)
    micro = values.batch_size / values.accumulation
    tower = shape.forward(items * item_tokens(values, counts), ROW) / micro
    users = shape.of_layers(USER_LAYERS)
    scored = 2 * length * items * shape.hidden
    flops = tower + users.forward(length, length) + scored
    return training(
        values,
        examples=counts.windows(phase, values.history_length),
        flops=flops,
        layers=shape.layers + USER_LAYERS,
        weights=weights(shape),
        recomputed=recomputed or values.rows_at_once is not None,
    )


def evaluation_work(values: Any, users: float, counts: Counts, shape: Shape) -> Work:
    """The whole catalogue once, each user's history, and all scores."""
    catalogue = shape.forward(counts.items * item_tokens(values, counts), ROW)
    length = min(counts.length("test"), values.history_length)
    one = shape.of_layers(USER_LAYERS).forward(length, length) + 2 * counts.items * shape.hidden
    return Work(flops=catalogue + users * one, seconds=users * EXAMPLE_SECONDS + counts.items * EXAMPLE_SECONDS / 4)


def weights(shape: Shape) -> float:
    """Weights of both towers: the backbone, and its first and last layer again."""
    return shape.body_weights + shape.table_weights + shape.of_layers(USER_LAYERS).body_weights + shape.hidden + 1


def batch(values: Any, phase: str, counts: Counts, shape: Shape) -> Batch:
    """The largest micro-batch of packed items and of windows."""
    size, length = values.batch_size / values.accumulation, values.history_length
    items = min(size * (length + 1) + values.negatives, counts.items)
    text = min(values.text_tokens, LONG * counts.text_tokens) + 1
    at_once = None if values.rows_at_once is None else values.rows_at_once * ROW
    tower = Tower(shape.layers, items * _places(text, whole=True), at_once)
    return Batch((tower, Tower(USER_LAYERS, size * length)), size * length * values.negatives)
