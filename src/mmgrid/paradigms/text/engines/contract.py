"""The interface of an engine that generates titles.

Both engines give the same titles for `n = 1`, where both decode greedily in float32. (vLLM alone would load float32
weights in a 16-bit format, so it is given the type.) With more titles per user they differ: one uses a beam search with
length normalisation, the other samples, or a beam search with another stopping rule.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedTokenizerBase

from mmgrid.paradigms.shared.chat import Chat

_BREAKS = ("\n", "Ċ", "<0x0A>")  # a line break in vocabularies: itself, as a byte-level letter, as a byte's number

Prompt = Sequence[int] | np.ndarray  # token ids, at least one


class TitleGenerator(Protocol):
    """Generates titles: texts without line breaks, best first if the engine orders them; some may be empty or equal."""

    def titles(self, prompts: Sequence[Prompt], n: int) -> list[list[str]]:
        """`n` titles for each prompt, independent of the other prompts."""
        ...


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids at which a title ends: the end-of-text token, and every token that contains a line break.

    In training, answers end with the line break alone. A tokenizer may also have tokens such as a bracket with a line
    break, and a pretrained model may generate them.
    """
    breaks = [number for token, number in tokenizer.get_vocab().items() if any(mark in token for mark in _BREAKS)]
    end_of_text: Any = tokenizer.eos_token_id
    return sorted({*breaks, *Chat.of(tokenizer).end[-1:], *([] if end_of_text is None else [end_of_text])})
