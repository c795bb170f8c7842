"""Learns a merge: from sources with their domains to an ordinary recipe, which `merge` runs without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgrid.learning.domains import LearningDomain, OpenDomain
from mmgrid.learning.errors import LearningError
from mmgrid.learning.groups import patterns
from mmgrid.learning.mixture import Mixture
from mmgrid.learning.questions import device_of
from mmgrid.learning.settings import KINDS, LearningSettings
from mmgrid.learning.statistics import measure
from mmgrid.learning.weights import MergedLoss, learn_weights
from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.engine.vectors import summands
from mmgrid.merging.errors import listing
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.plan.prepare import prepare_merge
from mmgrid.merging.plan.recipe import MergeRecipe
from mmgrid.training.progress import StepProgress

SUMS = ("task_arithmetic", "linear")


@dataclass(frozen=True)
class Learned:
    """What was learned.

    Attributes:
        recipe: the merge.
        weights: group of tensors → source → weight; empty for learners of statistics.
        losses: of each step.
        users: source → number of users who were asked.
        statistics: source → name in its file of statistics → what was measured; empty for learners of weights.
    """

    recipe: MergeRecipe
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    losses: Sequence[float] = ()
    users: Mapping[str, int] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def learn(
    learner: str,
    recipe: MergeRecipe | Mapping[str, Any] | str | Path,
    domains: Mapping[str, LearningDomain],
    settings: LearningSettings | None = None,
    *,
    progress: StepProgress | None = None,
    workers: int | None = None,
) -> Learned:
    """Learn the weights of a recipe, or measure the statistics of its sources.

    Args:
        learner: a name in `LEARNERS`.
        recipe: what is merged; its sources have names. For weights by `task_arithmetic` or `linear`; its weights do not
            count. For statistics its method and options do not count.
        domains: name of the source → its domain.
        settings: default: those of the learner.
        progress: called after each step, or each user.
        workers: threads that read the sources.

    Raises:
        LearningError: recipe, domains and settings do not fit together, or the loss is no number.
        MergeError: the sources cannot be merged.
    """
    settings = settings or LearningSettings.of(learner)
    start = _with_domains(MergeRecipe.load(recipe).anchored(), domains)
    if learner in KINDS:
        return _measured(learner, start, domains, settings, progress)
    start = _checked(start)
    opened = [OpenDomain.open(name, domain, settings.seed) for name, domain in sorted(domains.items())]
    with prepare_merge(start, workers=workers or default_workers(), digests=False, with_modules=False) as prepared:
        read = summands(prepared.program, prepared.plan, workers=workers or default_workers())
        mixture = Mixture(read, settings.per, device_of(opened[0].model))
    loss = MergedLoss(mixture, opened, settings)
    weights, losses = learn_weights(loss, settings, progress)
    table = mixture.table(weights)
    return Learned(_with_weights(start, mixture, table, mixture.mean(weights)), table, losses, loss.users())


def _measured(
    learner: str,
    recipe: MergeRecipe,
    domains: Mapping[str, LearningDomain],
    settings: LearningSettings,
    progress: StepProgress | None,
) -> Learned:
    """The statistics of each source, and the recipe of the method that takes them; its files are named when written."""
    plain = recipe.model_copy(update={"method": "linear", "options": {}, "base": None, "base_onto": None, "rules": ()})
    with prepare_merge(plain, workers=1, digests=False, with_modules=False) as prepared:
        tensors = {name: _shapes(source) for name, source in prepared.program.sources.items()}
        merged = list(prepared.plan.merged)
    statistics, users = {}, {}
    for name, domain in sorted(domains.items()):
        opened = OpenDomain.open(name, domain, settings.seed)
        state = opened.model.state_dict()
        strange = [
            tensor for tensor in merged if tensor in state and tuple(state[tensor].shape) != tensors[name][tensor]
        ]
        if strange:
            raise LearningError(
                f"{name}: the model that recommends has {listing(strange)} in another shape than its file"
            )
        done, every = sum(users.values()), len(domains) * settings.number

        def tell(user: int, done: int = done, every: int = every) -> None:
            if progress is not None:
                progress(done + user, every, None)

        statistics[name], users[name] = measure(learner, opened, merged, settings, tell)
    value = recipe.model_dump(mode="json") | {"method": learner, "options": {}, "rules": []}
    for source in value["sources"]:
        source["weight"] = None
    return Learned(MergeRecipe.load(value), users=users, statistics=statistics)


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tensors.info(name).shape for name in tensors}


def _with_domains(recipe: MergeRecipe, domains: Mapping[str, LearningDomain]) -> MergeRecipe:
    """The recipe, once it is known that each of its sources has a domain."""
    named = {source.name for source in recipe.sources}
    if None in named or named != set(domains):
        known = listing(name for name in named if name is not None) or "none"
        raise LearningError(f"each source needs a name and a domain; sources: {known}; domains: {listing(domains)}")
    return recipe


def _checked(recipe: MergeRecipe) -> MergeRecipe:
    """The recipe as a plain sum, once it is known to be one."""
    if recipe.method not in SUMS:
        raise LearningError(
            f"{recipe.method}: weights are learned for sums of models or of task vectors; use "
            f"{' or '.join(SUMS)}, with stages if the task vectors should be trimmed first"
        )
    if recipe.rules:
        raise LearningError("rules: the learned weights become rules themselves; leave the recipe's out")
    if recipe.scale != 1.0:
        raise LearningError(f"scale: is {recipe.scale}; the learned weights take its place, so leave it out")
    return recipe.model_copy(update={"options": {**recipe.options, "normalise": False}})


def _with_weights(
    recipe: MergeRecipe, mixture: Mixture, table: Mapping[str, Mapping[str, float]], mean: Mapping[str, float]
) -> MergeRecipe:
    """The recipe with learned weights: of the sources where there is one group, else a rule for each group."""
    everywhere = next(iter(table.values())) if len(table) == 1 else mean
    value = recipe.model_dump(mode="json")
    for source in value["sources"]:
        source["weight"] = everywhere[source["name"]]
    tensors = [name for members in mixture.members.values() for name in members]
    if len(table) > 1:
        value["rules"] = [
            {"tensors": list(patterns(group, mixture.members[group], tensors)), "weights": dict(weights)}
            for group, weights in table.items()
        ]
    return MergeRecipe.load(value)
