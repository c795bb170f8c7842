"""Prompts of histories as token ids: every item is tokenised once, and prompts are joined from the pieces.

A prompt is the chat frame (see `Chat`) around

    {instruction}
    Title: {the oldest item}
    Description: {as much as the token budget allows}
    …
    Title: {the newest item}

and ends with the answer's label `Title:`. The answer is a title and a line break. So a title has the same token ids in
a history and in an answer. Pieces are joined at line breaks and blanks, where tokenizers split anyway.

If prompts are continued, no part of the frame stands between the newest item and the answer. The next title follows
like those in the history, so each title of a history is the answer to the part before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from mmgrid.backbone.plain_tokens import plain_tokens
from mmgrid.data import Items
from mmgrid.paradigms.shared.chat import Chat
from mmgrid.paradigms.shared.packing import TokenTable

TITLE = "Title:"
DESCRIPTION = "Description:"


def one_line(text: str) -> str:
    """The text with single blanks for white space: a line break would end a title, or look like the next item."""
    return " ".join(text.split())


@dataclass(frozen=True, eq=False)
class Prompts:
    """The pieces of which prompts and answers about N items are joined."""

    before: np.ndarray  # int64: chat frame and instruction
    after: np.ndarray  # int64: chat frame (unless prompts are continued) and the answer's label
    end: np.ndarray  # int64: the end of an answer
    lines: TokenTable  # each item's lines in a history, with the line breaks
    titles: TokenTable  # each item's title in an answer, without the line break
    whole: dict[str, str]  # a title that answers cut off → the full title, where only one title begins like that

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
        """Tokenise all items.

        Args:
            prompt: the instruction before the history.
            text_tokens: maximum tokens of title and description together.
            title_tokens: maximum tokens of a title.
            continued: the next title follows the history directly, like the titles in it.
        """
        chat = Chat.of(tokenizer)
        own = [TITLE, DESCRIPTION, f"{prompt}\n"]
        label, described, instruction = tokenizer(own, add_special_tokens=False)["input_ids"]
        names = [one_line(title) for title in items.titles]
        tokens = plain_tokens(tokenizer, [f" {name}" for name in names])
        texts = _descriptions(tokenizer, items.descriptions)
        lines = [
            [
                *label,
                *_title_and_description(
                    title[: min(title_tokens, text_tokens)], described, text, text_tokens, chat.end
                ),
                *chat.end,
            ]
            for title, text in zip(tokens, texts, strict=True)
        ]
        limit = min(title_tokens, text_tokens) if continued else title_tokens  # continued: as in a history
        answers = [title[:limit] for title in tokens]
        return cls(
            np.array([*chat.before, *instruction], np.int64),
            np.array([*(() if continued else chat.after), *label], np.int64),
            np.array(chat.end, np.int64),
            TokenTable.of([], lines),
            TokenTable.of([], answers),
            _whole_titles(tokenizer, names, tokens, answers, items.candidates),
        )

    def question(self, rows: np.ndarray) -> np.ndarray:
        """The prompt of a history of item rows, oldest first: int64 [tokens]."""
        return np.concatenate([self.before, joined(self.lines, rows), self.after])

    def answer(self, row: int) -> np.ndarray:
        """The answer if this item comes next: int64 [tokens]."""
        return np.concatenate([joined(self.titles, np.array([row])), self.end])

    def turns(self, rows: np.ndarray, n_context: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """A history as turns of a question and an answer: each title after the first `n_context` items is an answer.

        For continued prompts. Questions and answers are int64 [tokens].
        """
        question = [self.before, joined(self.lines, rows[:n_context]), self.after]
        turns = []
        for row in rows[n_context:].tolist():
            answer = self.answer(row)
            turns.append((np.concatenate(question), answer))
            line = joined(self.lines, np.array([row]))
            question = [line[len(self.after) + len(answer) :], self.after]
        return turns


def joined(table: TokenTable, rows: np.ndarray) -> np.ndarray:
    """The tokens of these rows, end to end: int64 [tokens]."""
    lengths = table.lengths(rows)
    first = np.cumsum(lengths) - lengths
    return table.tokens[np.repeat(table.offsets[rows] - first, lengths) + np.arange(lengths.sum())]


def _title_and_description(
    title: list[int], label: list[int], text: list[int], budget: int, line_break: Sequence[int]
) -> list[int]:
    """The title, and as much of the description as the budget allows; its label counts, line breaks do not."""
    room = budget - len(title) - len(label)
    return [*title, *line_break, *label, *text[:room]] if text and room > 0 else title


def _descriptions(tokenizer: PreTrainedTokenizerBase, descriptions: Sequence[str]) -> list[list[int]]:
    texts: list[list[int]] = [[] for _ in descriptions]
    filled = [row for row, description in enumerate(descriptions) if description.strip()]
    encoded = plain_tokens(tokenizer, [f" {one_line(descriptions[row])}" for row in filled])
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
    """Cut title → full title, for cut titles of candidates that only one title begins with."""
    rows = candidates.tolist()
    cut = [row for row in rows if len(answers[row]) < len(tokens[row])]
    known = {names[row] for row in rows}
    meanings: dict[str, set[str]] = {}
    for row in cut:
        meanings.setdefault(as_title(tokenizer, answers[row]), set()).add(names[row])
    return {text: min(whole) for text, whole in meanings.items() if len(whole) == 1 and text not in known}


def as_title(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    """The text of these tokens up to the first line break."""
    # Blanks before punctuation are part of a title: tokenizers must not tidy them up.
    text = str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return one_line(text.lstrip().partition("\n")[0])
