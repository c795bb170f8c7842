"""What generates titles.

Engines agree, title by title, where they do the same: `n = 1`, which is greedy in both, and float32 in both (vLLM is
told so; left alone it would load float32 weights as a 16-bit format). With more titles a user they are two ways to
get several: the beam of one normalises by length and never ends at the same place as the beam of the other, and
samples are samples.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedTokenizerBase

from mmgrid.paradigms.shared.chat import Chat

_BREAKS = ("\n", "Ċ", "<0x0A>")  # a line break as tokenizers write it: as it is, as a byte's letter, as a byte's number

Prompt = Sequence[int] | np.ndarray  # token ids, at least one


class TitleGenerator(Protocol):
    """Titles are text without a line break, best first where the engine knows an order; some may be empty or equal."""

    def titles(self, prompts: Sequence[Prompt], n: int) -> list[list[str]]:
        """`n` titles for each prompt. What they are depends on the prompt, not on the prompts beside it."""
        ...


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids at which a title ends: the end of all text, and whatever holds a line break.

    Answers end with a line break of its own in training; a tokenizer may also know some that stick to a bracket or a
    full stop, and a model that was trained on other texts likes them.
    """
    breaks = [number for token, number in tokenizer.get_vocab().items() if any(mark in token for mark in _BREAKS)]
    end_of_text: Any = tokenizer.eos_token_id
    return sorted({*breaks, *Chat.of(tokenizer).end[-1:], *([] if end_of_text is None else [end_of_text])})
