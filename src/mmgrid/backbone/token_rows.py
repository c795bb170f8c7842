"""Rows for new tokens behind a language model's own: for what has no text, such as semantic IDs."""

import torch
from torch import nn
from transformers import PreTrainedModel

from mmgrid.seeds import derive


@torch.no_grad()
def append_token_rows(model: PreTrainedModel, count: int, seed: int) -> int:
    """Append `count` rows to the embeddings, and to a head of its own; returns the first new token id.

    New rows are drawn by `seed` with the mean and the spread that the model's own rows have in each dimension, so that
    they are neither louder nor softer than a word. The tokenizer does not know them: no text may turn into them.
    """
    old = [weight.detach().clone() for weight in _tables(model).values()]
    first = len(old[0])
    model.resize_token_embeddings(first + count, mean_resizing=False)
    for number, (weight, before) in enumerate(zip(_tables(model).values(), old, strict=True)):
        draw = torch.Generator().manual_seed(derive(seed, "token rows", number))
        noise = torch.randn(count, before.shape[1], generator=draw).to(before)
        weight[first:] = before.mean(0) + before.std(0, correction=0) * noise
    return first


def token_tables(model: PreTrainedModel) -> list[str]:
    """Names, in the state dict that is saved, of the tensors whose rows are tokens."""
    return list(_tables(model))


def _tables(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The embeddings and, where they are not tied, the head."""
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = {id(module): name for name, module in model.named_modules()}
    tied = model.config.get_text_config().tie_word_embeddings
    return {f"{names[id(module)]}.weight": module.weight for module in (modules[:1] if tied else modules)}  # type: ignore[union-attr]
