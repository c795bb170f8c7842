"""The bytes that a micro-batch makes a training hold."""

from mmgrid.backbone.shape import Shape
from mmgrid.paradigms.micro_batch import LOGIT_BYTES, PASSING_BYTES, MicroBatch
from mmgrid.training.decoder_activations import activations

WIDTH = 128  # of the rows that are measured; others differ by their attention masks alone


def kept_bytes(batch: MicroBatch, shape: Shape | None, precision: str, *, recomputed: bool = False) -> float:
    """What the backward pass needs. recomputed: whether layers keep their inputs alone."""
    kept = batch.other + batch.logits_kept * LOGIT_BYTES
    for tower in batch.towers:
        assert shape is not None  # only decoders read tokens
        found = activations(shape, WIDTH, "bf16" if precision.startswith("bf16") else precision)
        kept += found.bytes(tower.layers, tower.held / WIDTH, recomputed)
    return kept


def peak_bytes(batch: MicroBatch, shape: Shape | None, precision: str, *, recomputed: bool = False) -> float:
    """The same, with what the loss holds for a moment."""
    return kept_bytes(batch, shape, precision, recomputed=recomputed) + batch.logits_passing * PASSING_BYTES
