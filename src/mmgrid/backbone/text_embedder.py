"""Embeds texts: by a language model's hidden states, or by a sentence embedding model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

TEXT_TOKENS = 64  # maximum tokens of a text; the rest is cut off


@dataclass(frozen=True)
class TextEmbedder:
    """A function from texts to vectors. The model is loaded at the first call and kept.

    Attributes:
        model: a folder, or an id on the hub.
        source: "backbone" for the mean hidden states of a language model; "last-token" for its state at the last token
            of the whole text, read with the tokenizer's special tokens; "sentence-transformers" for an embedding model.
        revision: of a model on the hub.
        dtype, prompt, batch_size, one_copy: of an embedding model, see `sentence_vectors`.
    """

    model: str | Path
    source: Literal["backbone", "last-token", "sentence-transformers"] = "backbone"
    revision: str | None = None
    dtype: str = "float32"
    prompt: str = ""
    batch_size: int = 32
    one_copy: bool = False

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, width]; zeros for an empty text. The precision of the model that asks has no effect."""
        from mmgrid.backbone.device import autocast, device

        with autocast(device(), "float32"):
            return self._embed(texts)

    @cached_property
    def _embed(self) -> Callable[[Sequence[str]], np.ndarray]:
        if self.source == "sentence-transformers":
            from mmgrid.backbone.sentence_vectors import sentence_vectors

            return lambda texts: sentence_vectors(
                self.model,
                texts,
                batch_size=self.batch_size,
                most_tokens=TEXT_TOKENS,
                revision=self.revision,
                dtype=self.dtype,
                prompt=self.prompt,
                one_copy=self.one_copy,
            )
        from mmgrid.backbone.device import device
        from mmgrid.backbone.load import load_model, load_tokenizer
        from mmgrid.backbone.pooling import text_vectors

        model, tokenizer = load_model(self.model, head=False), load_tokenizer(self.model)
        model.to(device())  # pyright: ignore[reportArgumentType]
        if self.source == "last-token":
            return lambda texts: text_vectors(model, tokenizer, texts, None, pooling="last", special_tokens=True)
        return lambda texts: text_vectors(model, tokenizer, texts, TEXT_TOKENS)
