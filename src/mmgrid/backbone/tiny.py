"""A tiny backbone: a shared, pre-trained Θ⁽⁰⁾ for machines without a GPU.

It is a Qwen3 of a few million parameters with a byte-level BPE tokenizer trained on item texts. This module provides
the model, the tokenizer and the examples of its pre-training (next-token prediction on the same texts); the caller runs
`training.fit`. The model is imported when one is made: who trains a tokenizer does not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from mmgrid.backbone.plain_tokens import plain_tokens
from mmgrid.backbone.recipe import TinyRecipe
from mmgrid.seeds import derive

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

END_OF_TEXT = "<|endoftext|>"
SPECIAL_TOKENS = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens, trained on `texts`; it encodes any string."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT, model_max_length=2048
    )


def create(recipe: TinyRecipe, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A randomly initialised Qwen3 of the recipe's shape, with tied embeddings, in float32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        head_dim=recipe.hidden_size // recipe.heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.get_vocab()[END_OF_TEXT],
        pad_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "tiny backbone"))
        return Qwen3ForCausalLM(config)


class TextRows:
    """Item texts joined by end-of-text tokens and cut into rows of `length` tokens.

    One example is one row, so an epoch reads every token once. Texts are shuffled by `seed` before they are joined, so
    that neighbours in a row are not neighbours in the catalogue.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int, seed: int):
        encoded = plain_tokens(tokenizer, texts)
        order = np.random.default_rng(derive(seed, "text order")).permutation(len(encoded))
        end = [tokenizer.eos_token_id]
        tokens = np.concatenate([np.asarray(encoded[i] + end, np.int64) for i in order]) if len(order) else []
        rows = len(tokens) // length
        self.rows = np.asarray(tokens[: rows * length], np.int64).reshape(rows, length)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, index: int, epoch: int) -> np.ndarray:
        return self.rows[index]

    def collate(self, drawn: Sequence[np.ndarray]) -> dict[str, Tensor]:
        return {"input_ids": torch.from_numpy(np.stack(drawn))}


def next_token_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Mean cross-entropy of each token given those before it in its row."""
    return model(input_ids=batch["input_ids"], labels=batch["input_ids"], use_cache=False).loss
