"""The text-grounded paradigm `text` (BIGRec, Bao et al. 2023): a language model tells the next item's title.

It reads a history as titles and descriptions, learns to answer with the title of what came next, and recommends the
items whose titles are nearest to the ones it makes up.  The model is the backbone itself, with its language-model
head: a plain Hugging Face causal language model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.pooling import text_vectors
from mmgrid.data import Histories, Items, Phase
from mmgrid.paradigms.recipes import TextRecipe
from mmgrid.paradigms.shared.dialogues import Dialogue, answer_logits, check_packing, collate
from mmgrid.paradigms.shared.dot_product import check_histories
from mmgrid.paradigms.shared.prompts import Prompts, one_line
from mmgrid.paradigms.shared.targets import Targets, targets
from mmgrid.paradigms.shared.windows import Windows, windows
from mmgrid.paradigms.text.engines import HuggingFaceGenerator, TitleGenerator, VllmGenerator
from mmgrid.paradigms.text.grounding import Grounding

MODEL_OPTIONS = ("prompt", "text_tokens", "title_tokens", "history_length", "every_position")  # in the config


class Text:
    """text as a paradigm: see `mmgrid.paradigms.contract.Paradigm`.

    `grounding`: how generated titles become items.  None embeds both by the model's own hidden states, the catalogue
    anew at every call; who ranks many models on one catalogue sets one that was encoded once.
    `popularity`: float32 [N], what `grounding.popularity_factor` made of the interactions that are known when users are
    asked; needed where the recipe's `popularity_gamma` is above 0.
    `others`: whose histories are left out of the users' lists instead of their own, where the recipe's `masked` says so.
    `generator`: what generates titles.  None takes the recipe's `engine`, on the model that is handed in; for vLLM
    that means to write it to a folder and to start an engine, at every call, while the model waits in main memory (what
    else is on the GPU stays).
    `seed`: of titles that are sampled.
    """

    name: Literal["text"] = "text"

    def __init__(self, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, recipe: TextRecipe | None = None):
        """`config`: what the model's own config says under `mmgrid`.

        Raises ValueError if it does not say how prompts are made.
        """
        self.config = {"every_position": False, **config}  # older checkpoints do not speak of it
        missing = [name for name in MODEL_OPTIONS if name not in self.config]
        if missing:
            raise ValueError(f"config.json: `mmgrid` holds no {missing[0]}, so that nobody knows how prompts are made")
        self.tokenizer = tokenizer
        self.recipe = recipe or TextRecipe(**{name: self.config[name] for name in MODEL_OPTIONS})
        self.grounding: Grounding | None = None
        self.popularity: np.ndarray | None = None
        self.others: Histories | None = None
        self.generator: TitleGenerator | None = None
        self.seed = 0
        self._prompts: tuple[Items, Prompts] | None = None

    @classmethod
    def create(
        cls, recipe: TextRecipe, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> tuple[Text, PreTrainedModel]:
        """Θ⁽⁰⁾: the backbone (with its head) as it is, told how prompts are made.  Nothing is drawn.

        Raises BackboneError if dialogues cannot be packed for it.
        """
        check_packing(backbone)
        backbone.config.mmgrid = {"paradigm": cls.name, **{name: getattr(recipe, name) for name in MODEL_OPTIONS}}
        return cls(backbone.config.mmgrid, tokenizer, recipe), backbone

    @classmethod
    def load(cls, folder: Path, recipe: TextRecipe | None = None) -> tuple[Text, PreTrainedModel]:
        model = load_model(folder)
        return cls(getattr(model.config, "mmgrid", {}), load_tokenizer(folder), recipe), model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))

    def examples(
        self, histories: Histories, items: Items, phase: Phase, seed: int
    ) -> TextExamples | TextWindowExamples:
        if self.config["every_position"]:
            return TextWindowExamples(windows(histories, phase, self.config["history_length"]), self.prompts(items))
        chosen = targets(
            histories,
            phase,
            earlier=self.recipe.earlier_items,
            most_per_user=self.recipe.most_targets(phase.name),
            seed=seed,
        )
        return TextExamples(chosen, self.prompts(items), self.config["history_length"])

    def loss(self, model: PreTrainedModel, batch: dict[str, Any]) -> Tensor:
        """Mean cross-entropy of the answers' tokens; logits are made for no other."""
        return F.cross_entropy(answer_logits(model, batch).float(), batch["labels"])

    def rank(self, model: PreTrainedModel, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        grounding = self._grounding(model, items)
        masked = self._masked(histories)
        return grounding.ranks(self.titles(model, histories, items), masked, items, targets, self._factor())

    def recommend(
        self, model: PreTrainedModel, histories: Histories, items: Items, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        grounding = self._grounding(model, items)
        masked = self._masked(histories)
        return grounding.top(self.titles(model, histories, items), masked, items, k, self._factor())

    def titles(self, model: PreTrainedModel, histories: Histories, items: Items) -> list[list[str]]:
        """The titles that the model makes up for each user, `recipe.titles` each.

        A title that was learnt in part, since it is longer than `title_tokens`, is given in full where it can only be
        one.
        """
        check_histories(histories)
        prompts = self.prompts(items)
        recent = histories.last(self.config["history_length"])
        questions = [prompts.question(np.asarray(recent.of(user), np.int64)) for user in range(len(recent))]
        with self._engine(model) as generator:
            told = generator.titles(questions, self.recipe.titles)
        return [[prompts.whole.get(title, title) for title in titles] for titles in told]

    def prompts(self, items: Items) -> Prompts:
        """What prompts about these items are joined from; kept, since a sweep asks for the same items again and again."""
        if self._prompts is None or self._prompts[0] is not items:
            shape = {name: self.config[name] for name in ("prompt", "text_tokens", "title_tokens")}
            prompts = Prompts.of(self.tokenizer, items, **shape, continued=self.config["every_position"])
            self._prompts = (items, prompts)
        return self._prompts[1]

    @contextmanager
    def _engine(self, model: PreTrainedModel) -> Iterator[TitleGenerator]:
        if self.generator is not None:
            yield self.generator
        elif self.recipe.engine == "huggingface":
            yield HuggingFaceGenerator(model, self.tokenizer, title_tokens=self.config["title_tokens"])
        else:
            with TemporaryDirectory(prefix="mmgrid-") as folder, _out_of_the_way(model):
                self.save(model, Path(folder))
                options = self.recipe.engine_options
                title_tokens = self.config["title_tokens"]
                generator = VllmGenerator(Path(folder), title_tokens=title_tokens, seed=self.seed, **options)
                try:
                    yield generator
                finally:
                    generator.close()

    def _grounding(self, model: PreTrainedModel, items: Items) -> Grounding:
        return self.grounding or own_grounding(model, self.tokenizer, items, self.config["title_tokens"])

    def _masked(self, histories: Histories) -> Histories:
        """What is left out of the users' lists."""
        if self.recipe.masked == "own":
            return histories
        if self.others is None or len(self.others) != len(histories):
            raise ValueError("masked = 'others': set `others` to the histories of as many other users")
        return replace(self.others, users=histories.users)  # the order of what ties is the users' own all the same

    def _factor(self) -> np.ndarray | None:
        if self.recipe.popularity_gamma == 0:
            return None
        if self.popularity is None:
            raise ValueError(
                f"popularity_gamma is {self.recipe.popularity_gamma}, but no popularity is known: set `popularity` to "
                "what mmgrid.paradigms.text.grounding.popularity_factor makes of the interactions that are known by now"
            )
        return self.popularity


class TextExamples:
    """One example is one target: the question of what came before it, and its title as the answer."""

    def __init__(self, targets: Targets, prompts: Prompts, history_length: int):
        self.targets = targets
        self.prompts = prompts
        self.history_length = history_length

    def __len__(self) -> int:
        return len(self.targets)

    def draw(self, index: int, epoch: int) -> Dialogue:
        question = self.prompts.question(self.targets.context(index, self.history_length))
        return Dialogue.of((question, self.prompts.answer(self.targets.item(index))))

    def collate(self, drawn: Sequence[Dialogue]) -> dict[str, Tensor]:
        return collate(drawn)


class TextWindowExamples:
    """One example is one window: every target's title answers the history before it, in one reading."""

    def __init__(self, windows: Windows, prompts: Prompts):
        self.windows = windows
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.windows)

    def draw(self, index: int, epoch: int) -> Dialogue:
        return Dialogue.of(*self.prompts.turns(self.windows.sequence(index), self.windows.n_context(index)))

    def collate(self, drawn: Sequence[Dialogue]) -> dict[str, Tensor]:
        return collate(drawn)


@contextmanager
def _out_of_the_way(model: nn.Module) -> Iterator[None]:
    """Within, the model's memory on a GPU is free for somebody else."""
    place = next(model.parameters()).device
    model.to("cpu")
    if place.type == "cuda":
        torch.cuda.empty_cache()
    try:
        yield
    finally:
        model.to(place)


def own_grounding(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Items, title_tokens: int
) -> Grounding:
    """A grounding by the model's own mean-pooled hidden states."""
    decoder = model.get_decoder()
    names = [one_line(title) for title in items.titles]
    distinct, title_of = np.unique(np.array(names, dtype=object), return_inverse=True)
    hidden = text_vectors(decoder, tokenizer, distinct.tolist(), title_tokens)
    return Grounding.centred(
        hidden[title_of], lambda texts: text_vectors(decoder, tokenizer, texts, title_tokens), items.candidates
    )
