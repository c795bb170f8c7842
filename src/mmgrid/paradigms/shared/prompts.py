"""Items as lines of a prompt, and prompts as token ids: every item is tokenised once, and pieces are only joined.

A prompt is the frame of the tokenizer's chat template around

    {instruction}
    Title: {the oldest item}
    Description: {what the budget leaves of it}
    …
    Title: {the newest item}

and ends where the answer begins, with the words `Title:`. The answer is a title and a line break. So a title has
the same token ids wherever it stands. Pieces meet at line breaks and blanks, where tokenizers cut anyway.

Where prompts are continued, nothing of the frame stands between the newest item and the answer: the next title comes
as the titles before it did, and each title of a history is an answer to what stands before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from transformers import PreTrainedTokenizerBase

from mmgrid.data import Items
from mmgrid.paradigms.shared.chat import Chat
from mmgrid.paradigms.shared.packing import TokenTable

TITLE = "Title:"
DESCRIPTION = "Description:"

Encode = Callable[[list[str]], list[list[int]]]


def one_line(text: str) -> str:
    """The words of a text with single blanks between: a line break would end a title, or look like the next item."""
    return " ".join(text.split())


@dataclass(frozen=True, eq=False)
class Prompts:
    """All that questions and answers about N items are joined from."""

    before: np.ndarray  # int64: chat frame and instruction
    after: np.ndarray  # int64: chat frame, unless prompts are continued, and the label of the answer
    end: np.ndarray  # int64: what ends an answer
    lines: TokenTable  # each item as a history tells it, with its line break
    titles: TokenTable  # each item's title, as it is answered
    whole: dict[
        str, str
    ]  # a title as it is answered when it is cut → the one title in the catalogue that it stands for

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        items: Items,
        *,
        prompt: str,
        text_tokens: int,
        title_tokens: int,
        continued: bool = False,
    ) -> Prompts:
        """Args:
        text_tokens, title_tokens: of title and description together, and of a title, at most.
        continued: the next title follows a history at once, as its titles follow each other.
        """
        encode = partial(_encode, tokenizer)
        chat = Chat.of(tokenizer)
        label, described, instruction = encode([TITLE, DESCRIPTION, f"{prompt}\n"])
        names = [one_line(title) for title in items.titles]
        tokens = encode([f" {name}" for name in names])
        texts = _descriptions(encode, items.descriptions)
        lines = [
            [*label, *_told(title[: min(title_tokens, text_tokens)], described, text, text_tokens, chat.end), *chat.end]
            for title, text in zip(tokens, texts, strict=True)
        ]
        told = min(title_tokens, text_tokens) if continued else title_tokens  # as a history tells it
        answers = [title[:told] for title in tokens]
        return cls(
            np.array([*chat.before, *instruction], np.int64),
            np.array([*(() if continued else chat.after), *label], np.int64),
            np.array(chat.end, np.int64),
            TokenTable.of([], lines),
            TokenTable.of([], answers),
            _whole_titles(tokenizer, names, tokens, answers, items.candidates),
        )

    def question(self, rows: np.ndarray) -> np.ndarray:
        """The prompt of a history, given as item rows, oldest first: int64 [tokens]."""
        return np.concatenate([self.before, joined(self.lines, rows), self.after])

    def answer(self, row: int) -> np.ndarray:
        """What is to be told when this item comes next: int64 [tokens]."""
        return np.concatenate([joined(self.titles, np.array([row])), self.end])

    def turns(self, rows: np.ndarray, n_context: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """A history in which each item's title answers what stands before it, but for the first `n_context`.

        Questions and answers in turn: int64 [tokens] each, for prompts that are continued.
        """
        asked = [self.before, joined(self.lines, rows[:n_context]), self.after]
        turns = []
        for row in rows[n_context:].tolist():
            answer = self.answer(row)
            turns.append((np.concatenate(asked), answer))
            line = joined(self.lines, np.array([row]))
            asked = [line[len(self.after) + len(answer) :], self.after]
        return turns


def joined(table: TokenTable, rows: np.ndarray) -> np.ndarray:
    """The tokens of these rows, one behind the other: int64 [tokens]."""
    lengths = table.lengths(rows)
    first = np.cumsum(lengths) - lengths
    return table.tokens[np.repeat(table.offsets[rows] - first, lengths) + np.arange(lengths.sum())]


def _told(title: list[int], label: list[int], text: list[int], budget: int, line_break: Sequence[int]) -> list[int]:
    """Title and, where something of it fits, description: its label counts among the budget, line breaks do not."""
    room = budget - len(title) - len(label)
    return [*title, *line_break, *label, *text[:room]] if text and room > 0 else title


def _descriptions(encode: Encode, descriptions: Sequence[str]) -> list[list[int]]:
    texts: list[list[int]] = [[] for _ in descriptions]
    filled = [row for row, description in enumerate(descriptions) if description.strip()]
    encoded = encode([f" {one_line(descriptions[row])}" for row in filled])
    for row, tokens in zip(filled, encoded, strict=True):
        texts[row] = tokens
    return texts


def _whole_titles(
    tokenizer: PreTrainedTokenizerBase,
    names: list[str],
    tokens: list[list[int]],
    answers: list[list[int]],
    candidates: np.ndarray,
) -> dict[str, str]:
    """What an answer that was cut stands for, where it can stand for one title only; of items that there are already."""
    rows = candidates.tolist()
    cut = [row for row in rows if len(answers[row]) < len(tokens[row])]
    known = {names[row] for row in rows}
    meanings: dict[str, set[str]] = {}
    for row in cut:
        meanings.setdefault(as_title(tokenizer, answers[row]), set()).add(names[row])
    return {text: min(whole) for text, whole in meanings.items() if len(whole) == 1 and text not in known}


def as_title(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    """What these tokens say, up to the first line break."""
    # Blanks before punctuation are part of a title: tokenizers must not tidy them up.
    text = str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return one_line(text.lstrip().partition("\n")[0])


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []
