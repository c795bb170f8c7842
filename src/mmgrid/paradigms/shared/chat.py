"""The chat frame of a prompt: one user turn of the tokenizer's chat template, or a line break if it has none."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

PLAIN_END = "\n"
_CONTENT = "\ue000"  # a private-use character, which no template contains


@dataclass(frozen=True)
class Chat:
    """Token ids before and after a question, and the token ids that end an answer."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Chat:
        """The frame of a tokenizer's chat template, with thinking turned off if the template supports that."""
        before, after = "", PLAIN_END
        if tokenizer.chat_template:
            turn = [{"role": "user", "content": _CONTENT}]
            rendered = tokenizer.apply_chat_template(
                turn, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            before, _, after = str(rendered).partition(_CONTENT)
        return cls(*(_ids(tokenizer, text) for text in (before, after, "\n")))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()
