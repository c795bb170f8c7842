"""The text-grounded paradigm `text` (BIGRec, Bao et al. 2023): a language model generates the next item's title.

The model reads a history as titles and descriptions, and is trained to answer with the next item's title. The items
whose titles are nearest to the generated titles are recommended. The model is the backbone itself with its
language-model head: a plain Hugging Face causal language model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.pooling import text_vectors
from mmgrid.data import HeldOut, Histories, Items, Known, Phase
from mmgrid.decoding.lm_head import lm_head_logits, vocabulary_of
from mmgrid.paradigms.contract import CannotTrainError, Paradigm, Predictions, TrainingStart
from mmgrid.paradigms.shared.cut_loss import cut_cross_entropy
from mmgrid.paradigms.shared.dialogues import (
    Dialogue,
    answer_logits,
    answer_states,
    answer_tokens,
    check_packing,
    collate,
)
from mmgrid.paradigms.shared.dot_product import check_histories
from mmgrid.paradigms.shared.prompts import Prompts, one_line
from mmgrid.paradigms.shared.sliced_loss import fits_at_once, summed_cross_entropy
from mmgrid.paradigms.shared.targets import Targets, targets
from mmgrid.paradigms.shared.vllm_engine import written
from mmgrid.paradigms.shared.windows import Windows, windows
from mmgrid.paradigms.text.engines import HuggingFaceGenerator, TitleGenerator, VllmGenerator
from mmgrid.paradigms.text.grounding import Grounding, popularity_factor
from mmgrid.paradigms.text.official import Official
from mmgrid.paradigms.text.spec import MODEL_VALUES, TextRecipe


class Text(Paradigm[PreTrainedModel]):
    """text as a paradigm.

    `prepare` sets all attributes but `generator`, which is for callers that run their own engine.

    Attributes:
        grounding: maps generated titles to items. None embeds all titles by the model's own hidden states, and the
            catalogue again at every call; to rank many models on one catalogue, set a grounding that is embedded once.
        popularity: float32 [N] of `grounding.popularity_factor`, from the interactions that are known when users are
            evaluated; needed if the recipe's `popularity_gamma` is above 0.
        others: the histories that are left out of the users' lists if the recipe has `masked = "others"`.
        generator: generates titles. None runs the recipe's `engine` with the given model. For vLLM, every call writes
            the model to a folder and starts an engine on it, while the model itself moves to main memory.
        seed: of sampled titles.
        official: how BIGRec's official code asks and grounds, for a checkpoint that was imported from it; else None.
    """

    name = "text"

    def __init__(self, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, recipe: TextRecipe | None = None):
        """Args:
            config: the `mmgrid` section of the model's config.

        Raises ValueError if `config` lacks a value that prompts depend on.
        """
        self.config = {"every_position": False, **config}  # older checkpoints lack it
        missing = [name for name in MODEL_VALUES if name not in self.config]
        if missing:
            raise ValueError(f"config.json lacks `mmgrid.{missing[0]}`; is this a text checkpoint?")
        self.tokenizer = tokenizer
        self.official = Official.of(self.config, tokenizer)
        self.own_embedder = self.official is not None
        official = {} if self.official is None else self.official.values
        self.recipe = recipe or TextRecipe(**{name: self.config[name] for name in MODEL_VALUES}, **official)
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
        """Θ⁽⁰⁾: the unchanged backbone with its head; its config gets the values that prompts depend on.

        Raises BackboneError if the backbone cannot read packed dialogues.
        """
        check_packing(backbone)
        backbone.config.mmgrid = {"paradigm": cls.name, **{name: getattr(recipe, name) for name in MODEL_VALUES}}
        return cls(backbone.config.mmgrid, tokenizer, recipe), backbone

    @classmethod
    def write_base(cls, recipe: TextRecipe, backbone: Path, folder: Path, seed: int) -> PreTrainedModel:
        paradigm, model = cls.create(recipe, load_model(backbone), load_tokenizer(backbone))
        paradigm.save(model, folder)
        return model

    @classmethod
    def start(cls, recipe: TextRecipe, start: TrainingStart) -> tuple[Text, PreTrainedModel]:
        assert start.folder is not None  # at least its base
        return cls.load(start.folder, recipe)

    @classmethod
    def load(
        cls, folder: Path, recipe: TextRecipe | None = None, domain: str | None = None
    ) -> tuple[Text, PreTrainedModel]:
        model = load_model(folder)
        return cls(getattr(model.config, "mmgrid", {}), load_tokenizer(folder), recipe), model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))

    def examples(
        self, histories: Histories, items: Items, phase: Phase, seed: int
    ) -> TextExamples | TextWindowExamples:
        if self.official is not None:
            raise CannotTrainError(
                "this checkpoint was imported from BIGRec, whose prompts text can ask and not train; use it as it is"
            )
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

    def next_items(
        self, histories: Histories, items: Items, phase: Phase, *, batch_size: int, seed: int
    ) -> TextExamples | TextWindowExamples:
        if self.official is not None or self.config["every_position"]:
            return self.examples(histories, items, phase, seed)
        chosen = targets(histories, phase, earlier=1, most_per_user=None, seed=seed)
        return TextExamples(chosen, self.prompts(items), self.config["history_length"])

    def loss(self, model: PreTrainedModel, batch: dict[str, Any]) -> Tensor:
        """Mean cross-entropy of the answers' tokens; only their logits are computed, and few of them at once."""
        labels, vocabulary = batch["labels"], vocabulary_of(model)
        cut = self.recipe.cross_entropy == "cut"
        if not cut and fits_at_once(len(labels), vocabulary):
            return F.cross_entropy(answer_logits(model, batch).float(), labels)
        inner = getattr(model, "module", model)  # of DistributedDataParallel
        states = answer_states(model, batch)
        if cut:
            return cut_cross_entropy(inner, states, labels) / len(labels)
        return summed_cross_entropy(states, labels, partial(lm_head_logits, inner), vocabulary) / len(labels)

    def predictions(self, model: PreTrainedModel, batch: dict[str, Any]) -> list[Predictions]:
        """Among all tokens, for each token of the answers."""
        return [Predictions(answer_logits(model, batch).float(), batch["labels"])]

    def prepare(self, known: Known, needs: Mapping[str, Any], seed: int = 0) -> None:
        """Set grounding and popularity from what is known.

        needs: `title_vectors` and `embedder`; without them the model's own hidden states embed the titles.
        """
        self.seed = seed
        self.grounding = self.popularity = self.others = None
        if self.official is None and "title_vectors" in needs and "embedder" in needs:
            vectors, embed = needs["title_vectors"], needs["embedder"]
            self.grounding = Grounding.centred(vectors, embed, known.items.candidates)
        if self.recipe.popularity_gamma:
            self.popularity = popularity_factor(
                known.corpus.timestamps,
                known.corpus.items,
                len(known.items),
                known.until,
                half_life_days=self.recipe.popularity_half_life_days,
                gamma=self.recipe.popularity_gamma,
                without=0.0 if self.recipe.without_popularity == "left_out" else 1.0,
            )
        if self.recipe.masked == "others" and isinstance(known, HeldOut):
            # The official code takes the histories of the first test users, whichever users were sampled.
            self.others = known.everyone.take(range(len(known.users)))

    def rank(self, model: PreTrainedModel, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        grounding = self._grounding(model, items)
        masked = self._masked(histories)
        titles, by_title = self.titles(model, histories, items), self.recipe.hits == "title"
        return grounding.ranks(titles, masked, items, targets, self._factor(), by_title=by_title)

    def recommend(
        self, model: PreTrainedModel, histories: Histories, items: Items, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        grounding = self._grounding(model, items)
        masked = self._masked(histories)
        return grounding.top(self.titles(model, histories, items), masked, items, k, self._factor())

    def titles(self, model: PreTrainedModel, histories: Histories, items: Items) -> list[list[str]]:
        """The titles that the model generates for each user, `recipe.titles` each.

        Titles longer than `title_tokens` are learned cut off; a generated cut title is completed if only one title of
        the catalogue begins like that.
        """
        check_histories(histories)
        recent = histories.last(self.config["history_length"])
        if self.official is not None:
            asked = [
                self.official.question([items.titles[int(row)] for row in recent.of(user)])
                for user in range(len(recent))
            ]
            with self._engine(model) as generator:
                generated = generator.titles(asked, max(self.official.beams, self.recipe.titles))
            return [titles[: self.recipe.titles] for titles in generated]
        prompts = self.prompts(items)
        questions = [prompts.question(np.asarray(recent.of(user), np.int64)) for user in range(len(recent))]
        with self._engine(model) as generator:
            generated = generator.titles(questions, self.recipe.titles)
        return [[prompts.whole.get(title, title) for title in titles] for titles in generated]

    def prompts(self, items: Items) -> Prompts:
        """The pieces of prompts about these items; cached, since a sweep uses the same items for every model."""
        if self._prompts is None or self._prompts[0] is not items:
            shape = {name: self.config[name] for name in ("prompt", "text_tokens", "title_tokens")}
            prompts = Prompts.of(self.tokenizer, items, **shape, continued=self.config["every_position"])
            self._prompts = (items, prompts)
        return self._prompts[1]

    @contextmanager
    def _engine(self, model: PreTrainedModel) -> Iterator[TitleGenerator]:
        if self.generator is not None:
            yield self.generator
        elif self.official is not None:
            yield self.official.generator(model, self.recipe.engine, self.config["title_tokens"])
        elif self.recipe.engine == "huggingface":
            yield HuggingFaceGenerator(model, self.tokenizer, title_tokens=self.config["title_tokens"])
        else:
            with written(self.save, model) as folder:
                options = self.recipe.engine_options
                title_tokens = self.config["title_tokens"]
                generator = VllmGenerator(folder, title_tokens=title_tokens, seed=self.seed, **options)
                try:
                    yield generator
                finally:
                    generator.close()

    def _grounding(self, model: PreTrainedModel, items: Items) -> Grounding:
        if self.grounding is None and self.official is not None:
            return self.official.grounding(items)
        return self.grounding or own_grounding(model, self.tokenizer, items, self.config["title_tokens"])

    def _masked(self, histories: Histories) -> Histories:
        """The histories whose items are left out of the users' lists."""
        if self.recipe.masked == "own":
            return histories
        if self.recipe.masked == "nothing":
            nothing = np.zeros(0, histories.items.dtype), np.zeros(0, histories.timestamps.dtype)
            return Histories(histories.users, np.zeros_like(histories.offsets), *nothing, histories.end)
        if self.others is None or len(self.others) != len(histories):
            raise ValueError("masked = 'others': set `others` to the histories of as many other users")
        return replace(self.others, users=histories.users)  # ties are still broken by the user

    def _factor(self) -> np.ndarray | None:
        if self.recipe.popularity_gamma == 0:
            return None
        if self.popularity is None:
            raise ValueError(
                f"popularity_gamma is {self.recipe.popularity_gamma}, but no popularity is known: call `prepare` with "
                "the domain's interactions, or set `popularity` (see mmgrid.paradigms.text.grounding.popularity_factor)"
            )
        return self.popularity


class TextExamples:
    """One example per target: the prompt of the history before it, and its title as the answer."""

    def __init__(self, targets: Targets, prompts: Prompts, history_length: int):
        self.targets = targets
        self.times = targets.times
        self.prompts = prompts
        self.history_length = history_length

    def __len__(self) -> int:
        return len(self.targets)

    def draw(self, index: int, epoch: int) -> Dialogue:
        question = self.prompts.question(self.targets.context(index, self.history_length))
        return Dialogue.of((question, self.prompts.answer(self.targets.item(index))))

    units = staticmethod(answer_tokens)

    def collate(self, drawn: Sequence[Dialogue]) -> dict[str, Tensor]:
        return collate(drawn)


class TextWindowExamples:
    """One example per window: each target's title is the answer to the part of the window before it."""

    def __init__(self, windows: Windows, prompts: Prompts):
        self.windows = windows
        self.times = windows.times
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.windows)

    def draw(self, index: int, epoch: int) -> Dialogue:
        return Dialogue.of(*self.prompts.turns(self.windows.sequence(index), self.windows.n_context(index)))

    units = staticmethod(answer_tokens)

    def collate(self, drawn: Sequence[Dialogue]) -> dict[str, Tensor]:
        return collate(drawn)


def own_grounding(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Items, title_tokens: int
) -> Grounding:
    """A grounding that embeds titles by the model's own mean-pooled hidden states."""
    decoder = model.get_decoder()
    names = [one_line(title) for title in items.titles]
    distinct, title_of = np.unique(np.array(names, dtype=object), return_inverse=True)
    hidden = text_vectors(decoder, tokenizer, distinct.tolist(), title_tokens)
    return Grounding.centred(
        hidden[title_of], lambda texts: text_vectors(decoder, tokenizer, texts, title_tokens), items.candidates
    )
