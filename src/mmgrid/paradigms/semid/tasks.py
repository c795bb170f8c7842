"""What semid learns: dialogues about semantic IDs, as in LC-Rec (Zheng et al. 2024), in token ids.

Sequence tasks: from a history of codes to the next item's codes; from codes to its title; from titles to its codes.
Item dialogues: from an item's codes to its text, and back, several items to a dialogue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mmgrid.data import Items
from mmgrid.paradigms.semid.spec import SemidRecipe
from mmgrid.paradigms.shared.chat import Chat
from mmgrid.paradigms.shared.dialogues import Dialogue, collate
from mmgrid.paradigms.shared.prompts import one_line
from mmgrid.paradigms.shared.targets import Targets
from mmgrid.paradigms.shared.windows import Windows
from mmgrid.seeds import generator

NEXT = "A user took these items, from the oldest to the newest: "
ASKS_CODES = " Which item comes next?"
ASKS_TITLE = " What is the title of the item that comes next?"
TELL_TEXT = "What is this item? "
TELL_CODES = "Which item is this? "


@dataclass(frozen=True)
class Words:
    """Token ids of all that semid says: its phrases, and each item's codes and texts."""

    chat: Chat
    phrases: dict[str, tuple[int, ...]]
    codes: np.ndarray  # int64 [N, L] token ids; -1 for an item without a code
    titles: Sequence[Sequence[int]]
    descriptions: Sequence[Sequence[int]]
    continued: bool = False

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        items: Items,
        codes: np.ndarray,
        title_tokens: int,
        text_tokens: int,
        continued: bool = False,
    ) -> Words:
        """Args:
        codes: int64 [N, L] token ids.
        title_tokens, text_tokens: where titles and descriptions are cut.
        continued: the next item's codes follow those of a history at once, as theirs follow each other.
        """

        def encode(texts: Sequence[str], most: int) -> list[list[int]]:
            found = tokenizer([one_line(text) for text in texts], add_special_tokens=False)["input_ids"]
            return [row[:most] for row in found]

        phrases = (NEXT, ASKS_CODES, ASKS_TITLE, TELL_TEXT, TELL_CODES)
        ids = {phrase: tuple(tokenizer(phrase, add_special_tokens=False)["input_ids"]) for phrase in phrases}
        return cls(
            Chat.of(tokenizer),
            ids,
            codes,
            encode(list(items.titles), title_tokens),
            encode(list(items.descriptions), text_tokens),
            continued,
        )

    def asked(self, *parts: Sequence[int] | np.ndarray) -> np.ndarray:
        """A question in its chat frame: int64 [tokens]."""
        pieces = [self.chat.before, *parts, self.chat.after]
        return np.concatenate([np.asarray(piece, np.int64) for piece in pieces])

    def known(self, items: np.ndarray) -> np.ndarray:
        """Token ids of the codes of those `items` that have any, end to end: int64 [tokens]."""
        codes = self.codes[items]
        return codes[codes[:, 0] >= 0].ravel()

    def history(self, items: np.ndarray) -> np.ndarray:
        """The question for the codes of the item that follows a history of codes: int64 [tokens]."""
        if self.continued:
            return np.concatenate([self.beginning, self.known(items)])
        return self.asked(self.phrases[NEXT], self.known(items), self.phrases[ASKS_CODES])

    @property
    def beginning(self) -> np.ndarray:
        """What stands before the codes of a history that is continued: int64 [tokens]."""
        return np.asarray([*self.chat.before, *self.phrases[NEXT]], np.int64)

    def titles_of(self, items: np.ndarray) -> np.ndarray:
        """Titles, each in a line of its own: int64 [tokens]."""
        lines = [token for item in items.tolist() for token in (*self.titles[item], *self.chat.end)]
        return np.asarray(lines, np.int64)


class SemidExamples:
    """Examples in this order: codes to codes, for each target or each window of them; a mixed task for each target;
    then item dialogues, of known items and of new ones.

    Which of the two mixed tasks, and which items stand in a dialogue, is drawn anew in each epoch.
    """

    def __init__(
        self,
        targets: Targets,
        windows: Windows | None,
        words: Words,
        items: Items,
        recipe: SemidRecipe,
        history_length: int,
        replay: float,
        seed: int,
    ):
        """Args:
        windows: of targets to learn from at once; None for one example a target.
        items: item dialogues are about the candidates.
        history_length: items that come before a single target.
        replay: share of the item dialogues that are made; of items that are new, all of them are.
        """
        self.targets = targets
        self.windows = windows
        self.words = words
        self.history_length = history_length
        self.seed = seed
        self.sequences = len(targets if windows is None else windows)
        self.mixed = len(targets) if recipe.mixed_tasks else 0
        coded = items.candidates[words.codes[items.candidates, 0] >= 0]
        known = np.isin(coded, items.new, invert=True)
        # Nothing is learned of a phase in which nothing happened: then there are no dialogues, either.
        size = recipe.item_group if self.sequences else 0
        self.known_items = ItemGroups(coded[known], size, replay, seed, "item dialogues")
        self.new_items = ItemGroups(coded[~known], size, 1.0, seed, "dialogues of new items")

    def __len__(self) -> int:
        return self.sequences + self.mixed + self.item_dialogues

    @property
    def item_dialogues(self) -> int:
        return len(self.known_items) + len(self.new_items)

    def draw(self, index: int, epoch: int) -> Dialogue:
        if index < self.sequences:
            return self._codes_to_codes(index)
        if index < self.sequences + self.mixed:
            return self._mixed(index - self.sequences, epoch)
        return self._item_dialogue(index - self.sequences - self.mixed, epoch)

    def collate(self, drawn: Sequence[Dialogue]) -> dict[str, Tensor]:
        return collate(drawn)

    def _context(self, index: int) -> tuple[np.ndarray, int]:
        return self.targets.context(index, self.history_length), self.targets.item(index)

    def _codes_to_codes(self, index: int) -> Dialogue:
        if self.windows is None:
            context, target = self._context(index)
            return Dialogue.of((self.words.history(context), self.words.codes[target]))
        items, n_context = self.windows.sequence(index), self.windows.n_context(index)
        known, answers = self.words.known(items[:n_context]), self.words.known(items[n_context:])
        return Dialogue.of((np.concatenate([self.words.beginning, known]), answers))

    def _mixed(self, index: int, epoch: int) -> Dialogue:
        context, target = self._context(index)
        words = self.words
        if generator(self.seed, "mixed task", epoch, index).random() < 0.5:
            question = words.asked(words.phrases[NEXT], words.known(context), words.phrases[ASKS_TITLE])
            return Dialogue.of((question, [*words.titles[target], *words.chat.end]))
        question = words.asked(words.phrases[NEXT], words.titles_of(context), words.phrases[ASKS_CODES])
        return Dialogue.of((question, words.codes[target]))

    def _item_dialogue(self, number: int, epoch: int) -> Dialogue:
        n_known = len(self.known_items)
        groups, number = (self.known_items, number) if number < n_known else (self.new_items, number - n_known)
        items, to_codes = groups.draw(number, epoch)
        turn = self._to_codes if to_codes else self._to_text
        return Dialogue.of(*(turn(item) for item in items.tolist()))

    def _to_text(self, item: int) -> tuple[np.ndarray, list[int]]:
        words = self.words
        question = words.asked(words.phrases[TELL_TEXT], words.codes[item])
        return question, [*words.titles[item], *words.chat.end, *words.descriptions[item], *words.chat.end]

    def _to_codes(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        words = self.words
        told = [*words.titles[item], *words.chat.end, *words.descriptions[item]]
        return words.asked(words.phrases[TELL_CODES], told), words.codes[item]


class ItemGroups:
    """Which items are spoken of together: groups of them in two directions, in another order in each epoch."""

    def __init__(self, items: np.ndarray, size: int, share: float, seed: int, salt: str):
        """Args:
        items: item rows.
        size: items of one dialogue; 0 for no dialogues.
        share: of the dialogues that there could be, how many are made in an epoch.
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
        """Item rows of dialogue `number` of an epoch, and whether it goes from texts to codes."""
        items, dialogues = self._shuffled(epoch)
        group, to_codes = divmod(int(dialogues[number]), 2)
        return items[group * self.size : (group + 1) * self.size], bool(to_codes)

    def _shuffled(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The items in the order in which an epoch groups them, and its dialogues in the order of their numbers."""
        if self._kept is None or self._kept[0] != epoch:
            rng = generator(self.seed, self.salt, epoch)
            self._kept = (epoch, rng.permutation(self.items), rng.permutation(2 * self.n_groups))
        return self._kept[1:]
