"""Whether a model reads from left to right, as a backbone must."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.load import BackboneError

_TOKENS = 8


@torch.no_grad()
def check_causal(model: PreTrainedModel) -> None:
    """Raise BackboneError if what a model says of a token depends on later ones, as in BERT.

    Packed rows would hide the later ones from it in training, and it would see them when it is asked.
    """
    tokens = torch.arange(_TOKENS, device=model.device)[None] % model.config.get_text_config().vocab_size
    other = tokens.clone()
    other[0, -1] = 0

    def before_last(ids: Tensor) -> Tensor:
        return model(input_ids=ids).logits[0, :-1].float()

    with evaluating(model):
        one, two = before_last(tokens), before_last(other)
    if not torch.allclose(one, two, rtol=0, atol=1e-5 * float(one.abs().max())):
        raise BackboneError(
            f"a {model.config.model_type} cannot be a backbone: it reads texts in both directions, and its states of a "
            "token depend on later ones; use a decoder that reads from left to right, such as Qwen. A model of this "
            'kind may embed items: source = "sentence-transformers" under [item_vectors]'
        )
