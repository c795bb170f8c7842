"""Whether a model can read a tree of branches: each branch must get the logits that it would get on its own.

Models with plain attention, explicit positions and a linear head can. Recurrent and convolutional layers pass on what
came before in the row regardless of the mask, and ALiBi uses indices in the row as positions.
"""

import math
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.load import BackboneError
from mmgrid.decoding.lm_head import lm_head_logits
from mmgrid.decoding.prompt_tree import PromptTree

MASKS = ("sdpa", "eager")  # attention implementations that accept any mask
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # relative to the largest logit

# Models that passed the check, with their attention.
_supported: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()


@torch.no_grad()
def check_tree_support(model: PreTrainedModel) -> None:
    """Compare a small tree with its branches read one by one; done once per model.

    Raises BackboneError if the logits differ or the model fails to read the tree.
    """
    kind = model.config._attn_implementation
    if kind not in MASKS:
        raise BackboneError(
            f"attention {kind!r} accepts no tree-shaped mask; load the model with attn_implementation='sdpa', or call "
            "model.set_attn_implementation('sdpa')"
        )
    if _supported.get(model) == kind:
        return
    refusal = (
        f"a {model.config.model_type} cannot search among semantic IDs: beams are read as branches of one tree, which "
        "needs a decoder with plain attention, explicit positions and a linear head, such as Qwen or Llama"
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
    if math.isfinite(furthest):  # non-finite logits: the model is broken, and decoding reports that
        _supported[model] = kind


def _two_readings(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Logits [2, 2, V] at the ends of two branches behind two prompts: read as one tree, and each branch alone."""
    prompts, padding = [[0, 1, 2], [0, 2, 1]], [0, 1]
    branches = [(3, 5), (4, 6)]

    def tensor(numbers: list) -> Tensor:
        return torch.tensor(numbers, device=model.device)

    tree = PromptTree(model, tensor(prompts), tensor([[1, 1, 1], [0, 1, 1]]), room=4)
    tree.grow(tensor([[4, 3]] * 2), tensor([[0, 0]] * 2))
    found = lm_head_logits(model, tree.grow(tensor([[5, 6]] * 2), tensor([[1, 0]] * 2)))  # branches swapped
    rows = [
        tensor([[*prompt[skipped:], *branch]])
        for prompt, skipped in zip(prompts, padding, strict=True)
        for branch in branches
    ]
    alone = [model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False).logits[0, -1] for row in rows]
    return found, torch.stack(alone).float().view_as(found)
