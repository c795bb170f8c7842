"""A table of token rows of which only the last are trained, as an adapter trains those of new tokens."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmgrid.backbone.load import BackboneError


class TrainedRows(nn.Module):
    """Stands for an embedding or a head. The rows before `first` are frozen, and have neither gradients nor moments.

    Attributes:
        frozen: [first, D], the memory of the table that it stands for.
        rows: the rest, a parameter, which tied tables share.
    """

    def __init__(self, table: nn.Embedding | nn.Linear, first: int, rows: nn.Parameter | None = None):
        super().__init__()
        self.frozen = nn.Parameter(table.weight.detach()[:first], requires_grad=False)
        self.rows = nn.Parameter(table.weight.detach()[first:].clone()) if rows is None else rows
        self.bias = getattr(table, "bias", None)
        self.embeds = isinstance(table, nn.Embedding)

    @property
    def weight(self) -> Tensor:
        """The whole table, a copy."""
        return torch.cat([self.frozen, self.rows])

    def forward(self, given: Tensor) -> Tensor:
        """Token ids [...] → their rows [..., D]; of a head, states [..., D] → logits [..., V]."""
        return self._of(given) if self.embeds else self.logits(given)

    def logits(self, states: Tensor, token_ids: Tensor | None = None) -> Tensor:
        """The logits [..., V] of states [..., D]; with `token_ids` [R], only of these tokens [..., R]."""
        states, bias = states.to(self.rows.dtype), self.bias
        if token_ids is None:
            found = torch.cat([F.linear(states, self.frozen), F.linear(states, self.rows)], dim=-1)
            return found if bias is None else found + bias
        return F.linear(states, self._of(token_ids), None if bias is None else bias[token_ids])

    def _of(self, token_ids: Tensor) -> Tensor:
        """The rows of tokens."""
        first = len(self.frozen)
        old = F.embedding(token_ids.clamp(max=first - 1), self.frozen)
        new = F.embedding((token_ids - first).clamp(min=0), self.rows)
        return torch.where((token_ids >= first).unsqueeze(-1), new, old)


def train_rows(model: PreTrainedModel, tables: Mapping[str, int]) -> None:
    """Let only the last rows of token tables be trained.

    Args:
        tables: name of the weight of an embedding or head → its first row that is trained. A head that is tied to the
            embeddings, and that it does not name, follows them.

    Raises:
        BackboneError: a table is neither a plain embedding nor a linear layer.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    by_weight: dict[int, TrainedRows] = {}
    wanted = {id(modules[name.rpartition(".")[0]].weight): first for name, first in tables.items()}
    for name, module in modules.items():
        weight = module._parameters.get("weight")
        if weight is None or id(weight) not in wanted:
            continue
        if not isinstance(module, nn.Embedding | nn.Linear) or type(module).forward not in (
            nn.Embedding.forward,
            nn.Linear.forward,
        ):
            raise BackboneError(
                f"{name} of a {model.config.model_type} computes more than a plain table, so single rows of it cannot "
                "be trained; leave `lora` out"
            )
        rows = by_weight[id(weight)].rows if id(weight) in by_weight else None
        by_weight[id(weight)] = replaced = TrainedRows(module, wanted[id(weight)], rows)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, replaced)
