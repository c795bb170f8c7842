"""Measures statistics of a domain's own model on its users: the Fisher information, or the inputs of linear layers.

Users are asked one by one, so that neither padding nor other users enter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.learning.domains import OpenDomain
from mmgrid.learning.errors import LearningError
from mmgrid.learning.questions import Questions, device_of
from mmgrid.learning.settings import KINDS, LearningSettings
from mmgrid.merging.plan.statistics import statistics_name
from mmgrid.paradigms.shared.packing import real_places
from mmgrid.seeds import derive

Measured = dict[str, Tensor]
Progress = Callable[[int], None]

FISHER, GRAM = "fisher", "gram"


def measure(
    learner: str,
    domain: OpenDomain,
    tensors: Collection[str],
    settings: LearningSettings,
    progress: Progress | None = None,
) -> tuple[Measured, int]:
    """The statistics of a domain's own model, by their names in the file, and the number of users.

    Args:
        learner: `fisher` or `regmean`.
        tensors: that are merged.
        progress: called with the number of users so far.

    Raises:
        LearningError: nobody can be asked, or nothing was measured.
    """
    questions = Questions(domain, settings, batch_size=1)
    state = domain.model.state_dict(keep_vars=True)
    weights = {name: state[name] for name in sorted(tensors) if name in state}
    with evaluating(domain.model):
        kind = {FISHER: _fisher, GRAM: _grams}[KINDS[learner]]
        found = kind(domain, weights, questions, settings, progress or (lambda _: None))
    if not found:
        raise LearningError(f"{domain.name}: {learner} finds nothing to measure in this model")
    return {statistics_name(KINDS[learner], name): tensor for name, tensor in found.items()}, len(questions)


def _fisher(
    domain: OpenDomain,
    weights: Mapping[str, Tensor],
    questions: Questions,
    settings: LearningSettings,
    progress: Progress,
) -> Measured:
    """F = E_x E_y (∂ log p(y | x) / ∂θ)², y drawn from the model itself, divided by its mean over the model.

    x is a user; y are the choices at all places that the user's example asks for, each drawn by itself. The division
    keeps a model with larger gradients from outweighing the others everywhere (Matena and Raffel 2022, normalised).
    """
    draw = torch.Generator().manual_seed(derive(settings.seed, "fisher", domain.name))
    found = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    for user in range(len(questions)):
        domain.model.zero_grad(set_to_none=True)
        predictions = domain.paradigm.predictions(domain.model, questions.alone(user, device_of(domain.model)))
        log_probability(predictions, draw).backward()
        for name, weight in weights.items():
            if weight.grad is not None:
                found[name] += weight.grad.double() ** 2
        progress(user + 1)
    domain.model.zero_grad(set_to_none=True)
    mean = sum(float(one.sum()) for one in found.values()) / max(sum(one.numel() for one in found.values()), 1)
    if not mean > 0:
        raise LearningError(f"{domain.name}: its predictions depend on no weight, or are no numbers; is it trained?")
    return {name: (one / mean).float().cpu() for name, one in found.items()}


def log_probability(predictions: Any, draw: torch.Generator) -> Tensor:
    """The log-probability of choices drawn from the predictions themselves: a scalar."""
    terms = []
    for one in predictions:
        logarithms = torch.log_softmax(one.logits.float(), dim=-1)
        chances = logarithms.detach().exp().cpu()
        choices = torch.multinomial(chances, 1, generator=draw).to(logarithms.device)
        terms.append(-F.nll_loss(logarithms, choices[:, 0], reduction="sum"))
    return torch.stack(terms).sum()


@torch.no_grad()
def _grams(
    domain: OpenDomain,
    weights: Mapping[str, Tensor],
    questions: Questions,
    settings: LearningSettings,
    progress: Progress,
) -> Measured:
    """G = E x xᵀ over all inputs x of each linear layer that is no embedding at the same time."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    real: list[Tensor | None] = [None]

    def see(name: str, inputs: Tensor) -> None:
        places = real[0]
        if places is not None and inputs.shape[:2] == places.shape:
            inputs = inputs[places]
        rows = inputs.reshape(-1, inputs.shape[-1]).double()
        sums[name] = sums.get(name, 0) + rows.T @ rows
        counts[name] = counts.get(name, 0) + len(rows)

    with _hooked(domain.model, weights, see):
        for user in range(len(questions)):
            batch = questions.alone(user, device_of(domain.model))
            real[0] = real_places(batch)
            domain.paradigm.predictions(domain.model, batch)
            progress(user + 1)
    return {name: (total / max(counts[name], 1)).float().cpu() for name, total in sorted(sums.items())}


@contextmanager
def _hooked(model: nn.Module, weights: Mapping[str, Tensor], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Calls `see` with the inputs of each linear layer among `weights`."""
    names = {weight.data_ptr(): name for name, weight in weights.items()}
    embeddings = {module.weight.data_ptr() for module in model.modules() if isinstance(module, nn.Embedding)}
    handles = []
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.data_ptr() not in embeddings:
            name = names.get(module.weight.data_ptr())
            if name is not None:
                handles.append(module.register_forward_pre_hook(partial(_seen, see, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _seen(see: Callable[[str, Tensor], None], name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    see(name, inputs[0])
