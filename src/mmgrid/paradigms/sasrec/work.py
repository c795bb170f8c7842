"""What sasrec has to compute."""

from __future__ import annotations

from typing import Any

from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.micro_batch import MicroBatch
from mmgrid.paradigms.work import EXAMPLE_SECONDS, Work, training

NARROW = 2.5  # how much longer its narrow layers take than by their arithmetic: dropout, norms, losses


def _layers(values: Any, places: float) -> float:
    of_layer = 4 * values.hidden_size**2 + 2 * values.hidden_size * values.intermediate_size
    return NARROW * values.layers * (2 * places * of_layer + 4 * places**2 * values.hidden_size)


def weights(values: Any, counts: Counts) -> float:
    """Weights of the model: almost all of them are the items'."""
    of_layer = 4 * values.hidden_size**2 + 2 * values.hidden_size * values.intermediate_size
    return values.hidden_size * (counts.items + values.history_length) + values.layers * of_layer


def training_work(values: Any, phase: str, counts: Counts) -> Work:
    """The layers over every window, and a score of every item for every target."""
    windows = counts.windows(phase, values.history_length)
    length = counts.window_items(phase, values.history_length)
    scored = 2 * (counts.trained(phase) / windows) * counts.items * values.hidden_size
    return training(
        values,
        examples=windows,
        flops=_layers(values, length) + scored,
        layers=values.layers,
        weights=weights(values, counts),
    )


def evaluation_work(values: Any, users: float, counts: Counts) -> Work:
    """Each user's history, and all scores."""
    length = min(counts.length("test"), values.history_length)
    return Work(
        flops=users * (_layers(values, length) + 2 * counts.items * values.hidden_size),
        seconds=users * EXAMPLE_SECONDS,
    )


def batch(values: Any, phase: str, counts: Counts) -> MicroBatch:
    """A batch of full windows; every target has a logit for every item."""
    places = values.batch_size / values.accumulation * values.history_length
    kept = places * values.layers * (12 * values.hidden_size + 2 * values.intermediate_size) * 4
    return MicroBatch((), places * counts.items, sliced=False, other=kept)
