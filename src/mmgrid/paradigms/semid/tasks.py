"""The training tasks of semid: dialogues about semantic IDs, as in LC-Rec (Zheng et al. 2024), as token ids.

Sequence tasks: from a history of codes to the next item's codes; from a history of codes to the next item's title;
from a history of titles to the next item's codes. Item dialogues: from an item's codes to its text, and from its text
to its codes, several items per dialogue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mmgrid.backbone.plain_tokens import plain_tokens
from mmgrid.data import Items
from mmgrid.paradigms.semid.spec import SemidRecipe
from mmgrid.paradigms.shared.chat import Chat
from mmgrid.paradigms.shared.dialogues import Dialogue, answer_tokens, collate
from mmgrid.paradigms.shared.prompts import one_line
from mmgrid.paradigms.shared.targets import Targets
from mmgrid.paradigms.shared.windows import Windows
from mmgrid.seeds import generator

HISTORY = "A user took these items, from the oldest to the newest: "
ASK_CODES = " Which item comes next?"
ASK_TITLE = " What is the title of the item that comes next?"
CODES_TO_TEXT = "What is this item? "
TEXT_TO_CODES = "Which item is this? "


@dataclass(frozen=True)
class PromptParts:
    """Token ids from which prompts and answers are joined: fixed phrases, and each item's codes and texts."""

    chat: Chat
    phrases: dict[str, tuple[int, ...]]
    codes: np.ndarray  # int64 [N, L] token ids; -1 for an item without a code
    titles: Sequence[Sequence[int]]
    descriptions: Sequence[Sequence[int]]
    continued: bool = False  # no question between a history and the next item's codes

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        items: Items,
        codes: np.ndarray,
        title_tokens: int,
        text_tokens: int,
        continued: bool = False,
    ) -> PromptParts:
        """Tokenise all items.

        Args:
            codes: int64 [N, L] token ids, -1 for an item without a code.
            title_tokens, text_tokens: maximum tokens of a title and of a description; the rest is cut off.
            continued: the next item's codes follow those of the history directly, without a question between.
        """

        def encode(texts: Sequence[str], limit: int) -> list[list[int]]:
            return [row[:limit] for row in plain_tokens(tokenizer, [one_line(text) for text in texts])]

        phrases = (HISTORY, ASK_CODES, ASK_TITLE, CODES_TO_TEXT, TEXT_TO_CODES)
        ids = {phrase: tuple(tokenizer(phrase, add_special_tokens=False)["input_ids"]) for phrase in phrases}
        return cls(
            Chat.of(tokenizer),
            ids,
            codes,
            encode(list(items.titles), title_tokens),
            encode(list(items.descriptions), text_tokens),
            continued,
        )

    def prompt(self, *parts: Sequence[int] | np.ndarray) -> np.ndarray:
        """The parts of a question, joined and put into the chat frame: int64 [tokens]."""
        pieces = [self.chat.before, *parts, self.chat.after]
        return np.concatenate([np.asarray(piece, np.int64) for piece in pieces])

    def codes_of(self, items: np.ndarray) -> np.ndarray:
        """The codes of `items` (item rows), end to end; items without a code are skipped: int64 [tokens]."""
        codes = self.codes[items]
        return codes[codes[:, 0] >= 0].ravel()

    def next_codes_prompt(self, history: np.ndarray) -> np.ndarray:
        """The prompt that is answered by the codes of the item after a history of item rows: int64 [tokens]."""
        if self.continued:
            start = [*self.chat.before, *self.phrases[HISTORY]]
            return np.concatenate([np.asarray(start, np.int64), self.codes_of(history)])
        return self.prompt(self.phrases[HISTORY], self.codes_of(history), self.phrases[ASK_CODES])

    def titles_of(self, items: np.ndarray) -> np.ndarray:
        """The titles of `items` (item rows), one per line: int64 [tokens]."""
        lines = [token for item in items.tolist() for token in (*self.titles[item], *self.chat.end)]
        return np.asarray(lines, np.int64)


class SemidExamples:
    """All examples of a phase, in this order: codes to codes, one per target or per window; a mixed task per target;
    item dialogues, first of known items, then of items that are new in this phase.

    Each epoch draws again which of the two mixed tasks a target gets, and which items share a dialogue.
    """

    def __init__(
        self,
        targets: Targets,
        windows: Windows | None,
        parts: PromptParts,
        items: Items,
        recipe: SemidRecipe,
        history_length: int,
        replay: float,
        seed: int,
        *,
        first_code: int,
    ):
        """Args:
        targets: of single examples and mixed tasks.
        windows: learn codes to codes from all targets of a window at once; None for one example per target.
        items: item dialogues are about the candidates.
        history_length: maximum items before a single target.
        replay: share of the item dialogues of known items; new items get all of theirs.
        first_code: the first token that is a code.
        """
        self.first_code = first_code
        self.code_weight = recipe.code_weight if recipe.divisor == "weights" else 1.0
        self.targets = targets
        self.windows = windows
        self.parts = parts
        self.history_length = history_length
        self.seed = seed
        self.sequences = len(targets if windows is None else windows)
        self.mixed = len(targets) if recipe.mixed_tasks else 0
        coded = items.candidates[parts.codes[items.candidates, 0] >= 0]
        known = np.isin(coded, items.new, invert=True)
        # A phase without targets has no item dialogues either: nothing happened in it, so nothing is trained.
        size = recipe.item_group if self.sequences else 0
        self.known_items = ItemGroups(coded[known], size, replay, seed, "item dialogues")
        self.new_items = ItemGroups(coded[~known], size, 1.0, seed, "dialogues of new items")

    def __len__(self) -> int:
        return self.sequences + self.mixed + self.item_dialogues

    @property
    def times(self) -> np.ndarray:
        """When the newest target of each example came: int64 [n], ms UTC; the least number for item dialogues, which
        the paper's official code has before all others.
        """
        once = self.targets.times
        sequences = once if self.windows is None else self.windows.times
        timeless = np.full(self.item_dialogues, np.iinfo(np.int64).min)
        return np.concatenate([sequences, once[: self.mixed], timeless])

    @property
    def item_dialogues(self) -> int:
        return len(self.known_items) + len(self.new_items)

    def draw(self, index: int, epoch: int) -> Dialogue:
        if index < self.sequences:
            return self._codes_to_codes(index)
        if index < self.sequences + self.mixed:
            return self._mixed(index - self.sequences, epoch)
        return self._item_dialogue(index - self.sequences - self.mixed, epoch)

    def units(self, drawn: Sequence[Dialogue]) -> float:
        """What the loss divides by: the weights of the answers' tokens, or their number."""
        codes = sum(int((one.is_answer & (one.tokens >= self.first_code)).sum()) for one in drawn)
        return self.code_weight * codes + answer_tokens(drawn) - codes

    def collate(self, drawn: Sequence[Dialogue]) -> dict[str, Tensor]:
        return collate(drawn)

    def _context(self, index: int) -> tuple[np.ndarray, int]:
        return self.targets.context(index, self.history_length), self.targets.item(index)

    def _codes_to_codes(self, index: int) -> Dialogue:
        if self.windows is None:
            context, target = self._context(index)
            return Dialogue.of((self.parts.next_codes_prompt(context), self.parts.codes[target]))
        items, n_context = self.windows.sequence(index), self.windows.n_context(index)
        answers = self.parts.codes_of(items[n_context:])
        return Dialogue.of((self.parts.next_codes_prompt(items[:n_context]), answers))

    def _mixed(self, index: int, epoch: int) -> Dialogue:
        context, target = self._context(index)
        parts = self.parts
        if generator(self.seed, "mixed task", epoch, index).random() < 0.5:
            question = parts.prompt(parts.phrases[HISTORY], parts.codes_of(context), parts.phrases[ASK_TITLE])
            return Dialogue.of((question, [*parts.titles[target], *parts.chat.end]))
        question = parts.prompt(parts.phrases[HISTORY], parts.titles_of(context), parts.phrases[ASK_CODES])
        return Dialogue.of((question, parts.codes[target]))

    def _item_dialogue(self, number: int, epoch: int) -> Dialogue:
        n_known = len(self.known_items)
        groups, number = (self.known_items, number) if number < n_known else (self.new_items, number - n_known)
        items, to_codes = groups.draw(number, epoch)
        turn = self._to_codes if to_codes else self._to_text
        return Dialogue.of(*(turn(item) for item in items.tolist()))

    def _to_text(self, item: int) -> tuple[np.ndarray, list[int]]:
        parts = self.parts
        question = parts.prompt(parts.phrases[CODES_TO_TEXT], parts.codes[item])
        return question, [*parts.titles[item], *parts.chat.end, *parts.descriptions[item], *parts.chat.end]

    def _to_codes(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        parts = self.parts
        text = [*parts.titles[item], *parts.chat.end, *parts.descriptions[item]]
        return parts.prompt(parts.phrases[TEXT_TO_CODES], text), parts.codes[item]


class ItemGroups:
    """The item dialogues: groups of items, each in both directions, shuffled in each epoch."""

    def __init__(self, items: np.ndarray, size: int, share: float, seed: int, salt: str):
        """Args:
        items: item rows.
        size: items per dialogue; 0 for no dialogues.
        share: the share of all possible dialogues that an epoch contains.
        salt: separates the draws of several groups with one seed.
        """
        self.items = items
        self.size = size
        self.n_groups = math.ceil(len(items) / size) if size else 0
        self.share = share
        self.seed = seed
        self.salt = salt
        self._kept: tuple[int, np.ndarray, np.ndarray] | None = None  # one epoch's order at a time

    def __len__(self) -> int:
        return math.ceil(self.share * 2 * self.n_groups)

    def draw(self, number: int, epoch: int) -> tuple[np.ndarray, bool]:
        """The item rows of dialogue `number` in an epoch, and whether it goes from texts to codes."""
        items, dialogues = self._shuffled(epoch)
        group, to_codes = divmod(int(dialogues[number]), 2)
        return items[group * self.size : (group + 1) * self.size], bool(to_codes)

    def _shuffled(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's shuffled items, and its shuffled dialogues: 2 · group + direction."""
        if self._kept is None or self._kept[0] != epoch:
            rng = generator(self.seed, self.salt, epoch)
            self._kept = (epoch, rng.permutation(self.items), rng.permutation(2 * self.n_groups))
        return self._kept[1:]
