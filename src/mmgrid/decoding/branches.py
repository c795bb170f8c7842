"""What a beam search asks of the model that it searches with.

Shape letters: B prompts, K beams, C tokens of a level, D width.
"""

from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from mmgrid.decoding.lm_head import lm_head_logits
from mmgrid.decoding.prompt_tree import PromptTree


class Branches(Protocol):
    """The beams of all prompts: branches of one tree behind each prompt. It starts with one branch of no tokens each."""

    def __len__(self) -> int:
        """B, the number of prompts."""
        ...

    def logits(self, tokens: Tensor) -> Tensor:
        """float32 [B, K, C]: logits of these tokens [C] after each branch, up to a constant of the branch."""
        ...

    def vocabulary_logits(self) -> Tensor:
        """float32 [B, K, V]: those of all tokens, up to the same constants."""
        ...

    def grow(self, tokens: Tensor, parents: Tensor) -> None:
        """Replace the branches by new ones: tokens [B, K], each appended to the branch with index `parents` [B, K]."""
        ...


class ModelBranches:
    """Branches of a model in this process, which reads each prompt once; see `PromptTree`."""

    def __init__(self, model: PreTrainedModel, tree: PromptTree) -> None:
        self._model, self._tree, self._hidden = model, tree, tree.hidden

    def __len__(self) -> int:
        return len(self._hidden)

    def logits(self, tokens: Tensor) -> Tensor:
        return lm_head_logits(self._model, self._hidden, tokens)

    def vocabulary_logits(self) -> Tensor:
        return lm_head_logits(self._model, self._hidden)

    def grow(self, tokens: Tensor, parents: Tensor) -> None:
        self._hidden = self._tree.grow(tokens, parents)
