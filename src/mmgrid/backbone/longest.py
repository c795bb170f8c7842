"""How many tokens a model can read at once."""

import logging
from functools import cache

from torch import nn
from transformers import PreTrainedModel

from mmgrid.backbone.load import BackboneError

_LOG = logging.getLogger(__name__)
_OFFSETS = (0, 2)  # OPT's table of positions has two rows before the first


def longest(model: PreTrainedModel) -> int | None:
    """The number of tokens that a model was made for; None if its config does not say."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def check_length(model: PreTrainedModel, tokens: int) -> None:
    """Check that a model can read so many tokens: prompt and answer.

    Raises BackboneError if it has no positions for them. Where it computes positions, a warning is logged.
    """
    limit = longest(model)
    if limit is None or tokens <= limit:
        return
    kind = model.config.model_type
    if any(model.get_input_embeddings() is not table and _is_positions(table, limit) for table in model.modules()):
        raise BackboneError(
            f"a prompt and its answer have {tokens} tokens, and this {kind} has positions for {limit}; lower "
            "history_length or text_tokens, or use a backbone for longer texts"
        )
    _warn(kind, limit)


def _is_positions(table: nn.Module, limit: int) -> bool:
    return isinstance(table, nn.Embedding) and table.num_embeddings - limit in _OFFSETS


@cache
def _warn(kind: str, limit: int) -> None:
    """Once for a kind of model."""
    _LOG.warning(
        "prompts with their answers have more than the %d tokens that this %s was made for: it may read them badly; "
        "lower history_length or text_tokens, or use a backbone for longer texts",
        limit,
        kind,
    )
