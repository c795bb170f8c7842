"""What semb has to compute."""

from __future__ import annotations

import math
from typing import Any

from mmgrid.backbone.shape import Shape
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import LONG, MicroBatch, Tower
from mmgrid.paradigms.work import EXAMPLE_SECONDS, Work, training

PROMPT, ROW = 10.0, 128.0  # tokens before the items of a row, and of a row
USER_LAYERS = 2


def item_tokens(values: Any, counts: Counts) -> float:
    """Places of a packed row for each item: its tokens, and its share of the prompt and of what stays empty."""
    most = most_tokens(values)
    return _places(min(most, counts.text_tokens) + 1, whole=counts.text_tokens >= most)


def most_tokens(values: Any) -> float:
    """Tokens of the longest text of an item, without the prompt."""
    return max(values.text_tokens - (PROMPT if values.prompt_counts else 0), 1)


def _places(alone: float, *, whole: bool) -> float:
    """whole: whether all items are as long as this one, so that none fills what another leaves; rows end with them."""
    row = max(ROW, PROMPT + alone)
    room = (row - PROMPT) / alone
    return PROMPT / (room // 1) + alone if whole else row / room


def distinct(drawn: float, among: float) -> float:
    """Different ones of so many draws."""
    return among * -math.expm1(-drawn / among)


def parts(values: Any) -> int:
    """In how many parts a batch is computed whose micro-batches share their negatives."""
    return values.accumulation if values.shared_negatives else 1


def at_once(values: Any) -> float:
    """Examples whose items are encoded together."""
    return values.batch_size / values.accumulation * parts(values)


def batch_items(values: Any, phase: str, counts: Counts) -> float:
    """Different items that are encoded together."""
    windows = at_once(values) * counts.window_items(phase, values.history_length)
    return distinct(windows + values.negatives, max(counts.items, 1.0))


def training_work(values: Any, phase: str, counts: Counts, shape: Shape, recomputed: bool) -> Work:
    """Each example's share of the items that are encoded together, its window, and its scores."""
    items, length = batch_items(values, phase, counts), counts.window_items(phase, values.history_length)
    tower = shape.forward(items * item_tokens(values, counts), ROW) / at_once(values)
    users = shape.of_layers(USER_LAYERS)
    scored = 2 * length * items * shape.hidden
    flops = tower + users.forward(length, length) + scored
    return training(
        values,
        examples=counts.windows(phase, values.history_length),
        flops=flops,
        layers=shape.layers + USER_LAYERS,
        weights=weights(shape),
        shape=shape,
        recomputed=recomputed or values.rows_at_once is not None or parts(values) > 1,
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


def batch(values: Any, phase: str, counts: Counts, shape: Shape) -> MicroBatch:
    """The largest micro-batch of packed items and of windows."""
    size, length, shares = at_once(values), values.history_length, parts(values)
    items = min(size * (length + 1) + values.negatives, counts.items)
    text = min(most_tokens(values), LONG * counts.text_tokens) + 1
    read, users = items * _places(text, whole=True), size * length
    if values.rows_at_once is None:
        items_read = Tower(shape.layers, read, parts=shares)
    else:
        items_read = Tower(shape.layers, read, values.rows_at_once * ROW)
    towers = (items_read, Tower(USER_LAYERS, users, parts=shares))
    return MicroBatch(towers, users * (items if values.batch_negatives else values.negatives))
