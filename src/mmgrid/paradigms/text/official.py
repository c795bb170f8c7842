"""How BIGRec's official code asks a model and grounds its answer (github.com/SAI990323/BIGRec at commit bb4dd0a).

The model is asked in an Alpaca frame and answers with a title in quotes; the first of its beams counts. Titles are
embedded by the language model that it was tuned from, as the last hidden state of the last token, and items rank by
their distance to the answer. Nothing is left out of a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.load import BackboneError
from mmgrid.backbone.text_embedder import TextEmbedder
from mmgrid.data import Items
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.text.engines.contract import Prompt
from mmgrid.paradigms.text.engines.huggingface import HuggingFaceGenerator
from mmgrid.paradigms.text.grounding import Grounding

# As in `inference.py`, blanks included; `train.py` has one blank before the first line break, and not two.
FRAME = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.  \n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_ANSWER = "Response:\n"  # the answer is what follows its last occurrence
_NO_LIMIT = 10**9  # tokenizers without a maximum length declare a larger one


@dataclass(eq=False)
class Official:
    """The prompt of an imported checkpoint, and what its answers are compared with.

    Attributes:
        instruction: of the prompt.
        history: the input before the titles.
        beams: of the search.
        hits: which items count as the target, as `TextRecipe.hits`.
        base: the language model that embeds titles: a folder, or a name on the Hub.
    """

    tokenizer: PreTrainedTokenizerBase
    instruction: str
    history: str
    beams: int
    hits: str
    base: str
    _grounding: tuple[Items, Grounding] | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> Official | None:
        """From the `mmgrid` section of a config; None if the checkpoint was not imported from BIGRec."""
        found = config.get("bigrec")
        return None if found is None else cls(tokenizer, **found)

    @property
    def values(self) -> dict[str, Any]:
        """The values of the recipe that affect an evaluation, as in the official code."""
        return {"titles": 1, "masked": "nothing", "hits": self.hits}

    def prompt(self, titles: Sequence[str]) -> str:
        """The prompt after a history of titles, oldest first."""
        told = ", ".join(f'"{title}"' for title in titles)
        return FRAME.format(instruction=self.instruction, input=f"{self.history}{told}\n ")

    def question(self, titles: Sequence[str]) -> np.ndarray:
        """The token ids of the prompt, with the tokenizer's special tokens: int64 [tokens]."""
        limited = self.tokenizer.model_max_length < _NO_LIMIT
        return np.asarray(self.tokenizer(self.prompt(titles), truncation=limited)["input_ids"], np.int64)

    def generator(self, model: PreTrainedModel, engine: str, new_tokens: int) -> HuggingFaceGenerator:
        """The official beam search. Raises ValueError for another engine."""
        if engine != "huggingface":
            raise ValueError(
                f'engine = "{engine}" ends answers otherwise than BIGRec\'s code, from which this checkpoint was '
                'imported; set engine = "huggingface"'
            )
        return OfficialGenerator(model, self.tokenizer, title_tokens=new_tokens)

    def grounding(self, items: Items) -> Grounding:
        """The vectors of the items' titles by the base model; kept for the next call with these items.

        Raises CheckpointError if the base model cannot be loaded.
        """
        if self._grounding is None or self._grounding[0] is not items:
            embed = TextEmbedder(self.base, "last-token")
            names = [OfficialGrounding.name_of(title) for title in items.titles]
            distinct, name_of = np.unique(np.array(names, dtype=object), return_inverse=True)
            try:
                vectors = embed(distinct.tolist())
            except BackboneError as error:
                raise CheckpointError(
                    f"the language model that embeds this checkpoint's titles: {error}. "
                    "Import the checkpoint again and name it: --option base=FOLDER"
                ) from error
            self._grounding = items, OfficialGrounding(vectors[name_of], embed)
        return self._grounding[1]


class OfficialGenerator(HuggingFaceGenerator):
    """Answers end with the end-of-text token alone; line breaks belong to them, and they may be empty."""

    may_be_empty: ClassVar[bool] = True

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, title_tokens: int):
        super().__init__(model, tokenizer, title_tokens=title_tokens)
        end: Any = tokenizer.eos_token_id
        self.stops, self.end = [end], end

    def title(self, prompt: Prompt, answer: list[int]) -> str:
        # Decoded together: a tokenizer may drop the blank before the first word of what it decodes.
        text = str(self.tokenizer.decode([*map(int, prompt), *answer], skip_special_tokens=True))
        return text.split(_ANSWER)[-1].strip('"')


class OfficialGrounding(Grounding):
    """Texts as the official code compares them: blanks in them count, and an empty answer is embedded like any other."""

    embeds_empty: ClassVar[bool] = True

    @staticmethod
    def name_of(title: str) -> str:
        return title.strip(" ").strip('"')

    def name(self, title: str) -> str:
        return self.name_of(title)

    def texts(self, titles: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(titles)) or [""]
