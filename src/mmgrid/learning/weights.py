"""Learns the weights of a sum of models: steps of Adam on the mean loss over all domains.

Sources: Yang et al. 2024 (AdaMerging, ICLR, arXiv 2310.02575) and Kim et al. 2026 (MergeRec, arXiv 2601.01753); both
take Adam with a rate of 0.001 for 500 steps of 16 examples.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.learning.domains import OpenDomain
from mmgrid.learning.errors import LearningError
from mmgrid.learning.losses import distillation, entropy, recommendation
from mmgrid.learning.mixture import Mixture
from mmgrid.learning.questions import Questions, device_of
from mmgrid.learning.settings import LearningSettings
from mmgrid.paradigms.contract import Predictions
from mmgrid.training.progress import StepProgress

_LOG = logging.getLogger(__name__)
KEPT = 1 << 22  # logits of a batch that a domain's own model need not compute again in the next pass


@dataclass(frozen=True, eq=False)
class _Asked:
    """A domain whose users are asked: its own model, and the live model that is moved to the merge."""

    domain: OpenDomain
    questions: Questions
    live: nn.Module


class MergedLoss:
    """The loss of a merge as a function of its weights, with its gradient."""

    def __init__(self, mixture: Mixture, domains: Sequence[OpenDomain], settings: LearningSettings) -> None:
        """Raises LearningError if a domain's model does not fit, or nobody can be asked."""
        self.mixture = mixture
        self.settings = settings
        for domain in domains:
            mixture.check(domain.model, domain.name)
        asked = {domain.name: Questions(domain, settings) for domain in domains}
        shared = all(mixture.covers(domain.model) for domain in domains)
        first = copy.deepcopy(domains[0].model) if shared else None
        self._expected: dict[tuple[str, int], list[Predictions]] = {}
        self._asked = [
            _Asked(domain, asked[domain.name], copy.deepcopy(domain.model) if first is None else first)
            for domain in domains
        ]

    def users(self) -> dict[str, int]:
        """The number of users of each domain."""
        return {one.domain.name: len(one.questions) for one in self._asked}

    def at(self, weights: Tensor, step: int) -> tuple[float, Tensor]:
        """The mean loss over the domains on the batches of a step, and its gradient float64 [G, S].

        weights: [G, S].
        """
        with ExitStack() as stack:
            for model in {id(one.live): one.live for one in self._asked}.values():
                stack.enter_context(evaluating(model))
                model.zero_grad(set_to_none=True)
            total = 0.0
            gradient = torch.zeros(weights.shape, dtype=torch.float64)
            for one in self._asked:
                self.mixture.place(one.live, one.domain.name, weights)
                loss = self._loss(one, step) / len(self._asked)
                loss.backward()
                total += float(loss.detach())
                gradient += self.mixture.gradient(one.live, one.domain.name)
                one.live.zero_grad(set_to_none=True)
        return total, gradient

    def _loss(self, asked: _Asked, step: int) -> Tensor:
        domain, settings = asked.domain, self.settings
        number = asked.questions.number(step)
        batch = asked.questions.batch(number, device_of(asked.live))
        found = domain.paradigm.predictions(asked.live, batch)
        terms: list[Any] = []
        if settings.recommendation:
            terms.append(settings.recommendation * recommendation(found))
        if settings.entropy:
            terms.append(settings.entropy * entropy(found))
        if settings.distillation:
            teacher = self._teacher(domain, number, batch)
            terms.append(settings.distillation * distillation(found, teacher, settings.temperature))
        if not terms:
            raise LearningError("recommendation, distillation and entropy are all 0: there is nothing to learn from")
        return torch.stack(terms).sum()

    @torch.no_grad()
    def _teacher(self, domain: OpenDomain, number: int, batch: dict[str, Any]) -> list[Predictions]:
        """What the domain's own model expects in a batch."""
        if (domain.name, number) in self._expected:
            return self._expected[domain.name, number]
        with evaluating(domain.model):
            found = domain.paradigm.predictions(domain.model, batch)
        if sum(one.logits.numel() for one in found) <= KEPT:
            self._expected[domain.name, number] = found
        return found


def learn_weights(
    loss: MergedLoss, settings: LearningSettings, progress: StepProgress | None = None
) -> tuple[Tensor, list[float]]:
    """The weights [G, S] after all steps, and the loss of each step.

    Raises:
        LearningError: the loss is no number.
    """
    shape = len(loss.mixture.groups), len(loss.mixture.sources)
    weights = nn.Parameter(torch.full(shape, settings.start, dtype=torch.float64))
    optimiser = torch.optim.Adam([weights], lr=settings.learning_rate)
    losses: list[float] = []
    moved = False
    for step in range(settings.steps):
        value, gradient = loss.at(weights.detach(), step)
        if not torch.isfinite(gradient).all():
            raise LearningError(
                f"the loss is {value} at step {step + 1}; lower the learning rate, or begin elsewhere (start)"
            )
        losses.append(value)
        moved = moved or bool(gradient.any())
        weights.grad = gradient
        optimiser.step()
        if settings.bounds is not None:
            weights.data.clamp_(*settings.bounds)
        if progress is not None:
            progress(step + 1, settings.steps, value)
    if settings.steps and not moved:
        _LOG.warning("the loss depends on no weight, so all weights are as they began; are the models trained?")
    return weights.detach(), losses
