"""Cross-entropy over a large vocabulary by a fused kernel, which holds no logits at all (an optional extra, on a GPU).

Source: Wijmans et al. 2025, Cut your losses in large-vocabulary language models, arXiv 2411.09009.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmgrid.training.errors import TrainingError


def cut_cross_entropy(model: PreTrainedModel, states: Tensor, labels: Tensor) -> Tensor:
    """The sum of the cross-entropies of T places: a scalar.

    Args:
        model: with its language-model head.
        states: [T, D], last hidden states.
        labels: int64 [T].

    Raises:
        TrainingError: there is no such kernel here, or the head is more than one matrix.
    """
    if find_spec("cut_cross_entropy") is None:
        raise TrainingError(
            'cross_entropy = "cut" needs cut-cross-entropy, which is not installed: `pip install '
            '"mmgrid[cut-cross-entropy]"`, or set cross_entropy = "torch"'
        )
    if not torch.cuda.is_available():
        raise TrainingError('cross_entropy = "cut" needs an NVIDIA GPU; set cross_entropy = "torch"')
    head: Any = model.get_output_embeddings()
    config = model.config
    scaled = any(getattr(config, name, None) for name in ("logit_scale", "logits_scaling"))
    if type(head) is not nn.Linear or head.bias is not None or scaled:
        raise TrainingError(
            f'cross_entropy = "cut": the head of this {config.model_type} is more than one matrix; '
            'set cross_entropy = "torch"'
        )
    if not len(states):
        return states.sum()
    from cut_cross_entropy import linear_cross_entropy  # pyright: ignore[reportMissingImports]

    softcap = getattr(config, "final_logit_softcapping", None)
    return linear_cross_entropy(states, head.weight.to(states.dtype), labels, softcap=softcap, reduction="sum")
