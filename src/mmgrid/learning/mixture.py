"""A live model at Θ(λ) = Θ₀ + Σ λᵢ τᵢ, with a weight λ for each source and group of tensors.

Θ is linear in λ, so the gradient with respect to a weight is the inner product of the parameters' gradient with the
task vector: no graph over the parameters is needed, and any paradigm's model can be used as it is.

Shape letters: G groups, S sources, n elements of a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgrid.learning.errors import LearningError
from mmgrid.learning.groups import Grouping, group_of
from mmgrid.merging.engine.vectors import Summands


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a tensor: where it lies in each source, its group, θ₀ [n] or None, and the summands [S, n]."""

    tensor: str
    first: dict[str, int]
    size: int
    group: int
    base: Tensor | None
    summands: Tensor


class Mixture:
    """The summands of a merge in memory.

    Attributes:
        sources: names, in the order of the weights' columns.
        groups: names, in the order of the weights' rows.
        members: group → its tensors.
    """

    def __init__(self, found: Iterable[Summands], per: Grouping, device: torch.device) -> None:
        self.sources: list[str] = []
        self.members: dict[str, list[str]] = {}
        self._parts: list[_Part] = []
        numbers: dict[str, int] = {}
        for one in found:
            self.sources = list(one.sources)
            group = group_of(one.tensor, per)
            members = self.members.setdefault(group, [])
            members += [] if one.tensor in members else [one.tensor]
            self._parts.append(
                _Part(
                    one.tensor,
                    dict(one.part.sources),
                    one.part.stop - one.part.start,
                    numbers.setdefault(group, len(numbers)),
                    None if one.base is None else torch.tensor(one.base, device=device),
                    torch.stack([torch.tensor(vector, device=device) for vector in one.sources.values()]),
                )
            )
        if not self._parts:
            raise LearningError("the sources have no tensors to merge")

    @property
    def groups(self) -> list[str]:
        return list(self.members)

    def check(self, model: nn.Module, source: str) -> None:
        """Check that a source's live model holds the tensors that are merged.

        Raises:
            LearningError: it lacks one, or has it in another shape.
        """
        state = model.state_dict(keep_vars=True)
        for part in self._parts:
            if part.tensor not in state or part.first[source] + part.size > state[part.tensor].numel():
                raise LearningError(
                    f"{source}: the model that recommends has no tensor {part.tensor} of the shape that is merged; a "
                    "learned merge takes checkpoints as they were saved, not stacks or adapters"
                )

    def covers(self, model: nn.Module) -> bool:
        """Whether everything in the model is merged, so that one live model can stand for those of all sources."""
        state = model.state_dict()
        sizes = dict.fromkeys(state, 0)
        for part in self._parts:
            sizes[part.tensor] += part.size
        merged = {state[name].data_ptr() for name, size in sizes.items() if size == state[name].numel()}
        return all(tensor.data_ptr() in merged for tensor in state.values() if tensor.is_floating_point())

    @torch.no_grad()
    def place(self, model: nn.Module, source: str, weights: Tensor) -> None:
        """Move the model of `source` to Θ(weights), weights [G, S]; what is not merged stays the source's own."""
        state = model.state_dict(keep_vars=True)
        for part in self._parts:
            merged = weights[part.group].to(part.summands) @ part.summands
            if part.base is not None:
                merged += part.base
            start = part.first[source]
            state[part.tensor].data.view(-1)[start : start + part.size].copy_(merged)

    @torch.no_grad()
    def gradient(self, model: nn.Module, source: str) -> Tensor:
        """The loss's gradient with respect to the weights, from that of the parameters: float64 [G, S].

        Scalars give none: they are temperatures, and sharper predictions alone rank nothing differently.
        """
        state = model.state_dict(keep_vars=True)
        found = torch.zeros(len(self.groups), len(self.sources), dtype=torch.float64)
        for part in self._parts:
            gradient = state[part.tensor].grad
            if gradient is None or part.size == 1:
                continue
            start = part.first[source]
            own = gradient.reshape(-1)[start : start + part.size].to(part.summands)
            found[part.group] += (part.summands @ own).double().cpu()
        return found

    def table(self, weights: Tensor) -> dict[str, dict[str, float]]:
        """Group → source → weight, as float32 with the fewest digits."""
        rows = weights.float().cpu().numpy()
        return {
            group: {source: float(str(value)) for source, value in zip(self.sources, row, strict=True)}
            for group, row in zip(self.groups, rows, strict=True)
        }

    def mean(self, weights: Tensor) -> dict[str, float]:
        """The mean weight of each source over all elements."""
        sizes = torch.zeros(len(self.groups), dtype=torch.float64)
        for part in self._parts:
            sizes[part.group] += part.size
        means = (weights.double().cpu() * (sizes / sizes.sum())[:, None]).sum(0).float().numpy()
        return {source: float(str(value)) for source, value in zip(self.sources, means, strict=True)}
