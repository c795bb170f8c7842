"""Token ids of texts that others wrote, such as titles: in them, the name of a special token is text like any other."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase


def plain_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, add_special_tokens: bool = False
) -> list[list[int]]:
    """The token ids of each text. `<|endoftext|>` in a title neither ends an answer nor vanishes when it is decoded.

    add_special_tokens: around each text, those with which the tokenizer begins or ends one.
    """
    # Only the names of special tokens are read otherwise; every other text keeps its tokens.
    options: Any = {"add_special_tokens": add_special_tokens, "split_special_tokens": True}
    return list(tokenizer(list(texts), **options)["input_ids"]) if len(texts) else []
