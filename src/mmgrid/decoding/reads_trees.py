"""Whether a model can read trees: whether each branch gets the logits that it would get if it stood there alone.

Models do that have plain attention, positions that are told and a linear head. Layers with a recurrent state or a
convolution pass on what came before in the row, whatever the mask says, and ALiBi takes places in the row for positions.
"""

import math
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.load import BackboneError
from mmgrid.decoding.head import logits
from mmgrid.decoding.prompt_tree import PromptTree

MASKS = ("sdpa", "eager")  # kinds of attention that take any mask
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # relative to the largest logit

_readers: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()  # models that do, and by which attention


@torch.no_grad()
def check_reads_trees(model: PreTrainedModel) -> None:
    """Read a small tree, and its branches one by one; once for each model.

    Raises BackboneError where the two differ, or where the model cannot read a tree at all.
    """
    kind = model.config._attn_implementation
    if kind not in MASKS:
        raise BackboneError(
            f"attention {kind!r} takes no tree-shaped mask; load the model with attn_implementation='sdpa', or call "
            "model.set_attn_implementation('sdpa')"
        )
    if _readers.get(model) == kind:
        return
    refusal = (
        f"a {model.config.model_type} cannot search among semantic IDs: beams are read as branches of one tree, for "
        "which it takes a decoder with plain attention, positions that can be told and a linear head, such as Qwen or Llama"
    )
    try:
        with evaluating(model):
            found, alone = _two_readings(model)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise BackboneError(f"{refusal} ({type(error).__name__}: {error})") from error
    tolerance = TOLERANCE.get(model.dtype, 1e-4) * float(alone.abs().max())
    furthest = float((found - alone).abs().max())
    if furthest > tolerance:
        raise BackboneError(refusal)
    if math.isfinite(furthest):  # else the model is broken, which whoever asks it will hear
        _readers[model] = kind


def _two_readings(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The logits at the ends of two branches behind two prompts, [2, 2, V]: of one tree, and of each branch alone."""
    prompts, padding = [[0, 1, 2], [0, 2, 1]], [0, 1]
    branches = [(3, 5), (4, 6)]

    def tensor(numbers: list) -> Tensor:
        return torch.tensor(numbers, device=model.device)

    tree = PromptTree(model, tensor(prompts), tensor([[1, 1, 1], [0, 1, 1]]), room=4)
    tree.grow(tensor([[4, 3]] * 2), tensor([[0, 0]] * 2))
    found = logits(model, tree.grow(tensor([[5, 6]] * 2), tensor([[1, 0]] * 2)))  # crosswise
    rows = [
        tensor([[*prompt[skipped:], *branch]])
        for prompt, skipped in zip(prompts, padding, strict=True)
        for branch in branches
    ]
    alone = [model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False).logits[0, -1] for row in rows]
    return found, torch.stack(alone).float().view_as(found)
