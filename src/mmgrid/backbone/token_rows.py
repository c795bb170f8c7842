"""Appends embedding rows for tokens that have no text, such as the codes of semantic IDs."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from mmgrid.seeds import derive


@torch.no_grad()
def append_token_rows(model: PreTrainedModel, count: int, seed: int) -> int:
    """Append `count` rows to the embeddings, and to the head if it is untied; returns the first new token id.

    New rows are drawn from `seed` with the mean and standard deviation of the existing rows in each dimension, so that
    their scale is that of words. The tokenizer does not know them, so no text is encoded to them.
    """
    old = [weight.detach().clone() for weight in _tables(model).values()]
    first = len(old[0])
    model.resize_token_embeddings(first + count, mean_resizing=False)
    for number, (weight, before) in enumerate(zip(_tables(model).values(), old, strict=True)):
        draw = torch.Generator().manual_seed(derive(seed, "token rows", number))
        noise = torch.randn(count, before.shape[1], generator=draw).to(before)
        weight[first:] = before.mean(0) + before.std(0, correction=0) * noise
    return first


@torch.no_grad()
def keep_token_rows(model: PreTrainedModel, kept: Sequence[tuple[int, int]]) -> None:
    """Keep only the rows [start, stop) of each range in `kept`, in this order, in the embeddings and an untied head."""
    parts = [torch.cat([weight[start:stop] for start, stop in kept]).clone() for weight in _tables(model).values()]
    model.resize_token_embeddings(len(parts[0]), mean_resizing=False)
    for weight, rows in zip(_tables(model).values(), parts, strict=True):
        weight.copy_(rows)


def token_tables(model: PreTrainedModel) -> list[str]:
    """Names, in the saved state dict, of the tensors that have one row per token."""
    return list(_tables(model))


def _tables(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The embeddings and, if untied, the head, by name."""
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = {id(module): name for name, module in model.named_modules()}
    tied = model.config.get_text_config().tie_word_embeddings
    return {f"{names[id(module)]}.weight": module.weight for module in (modules[:1] if tied else modules)}  # type: ignore[union-attr]
