"""`learned/<paradigm>/<merge>`: the weights or statistics of a merge, learned from the domains of its sources.

The folder has the learned values as a merge's recipe says them, and a file of statistics for each source if the method
takes them; a merge reads them in place of its own values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.files import file_stem, write_json
from mmgrid.learning.settings import KINDS, LearningSettings
from mmgrid.training.progress import StepProgress

LEARNED = "learned"  # the role of this cell
VALUES_FILE = "learned.json"


def learn_merge(
    recipe: Mapping[str, Any],
    start: Mapping[str, Any],
    sources: Mapping[str, Path],
    corpora: Mapping[str, Path],
    folder: Path,
    progress: StepProgress | None = None,
) -> Mapping[str, Any]:
    """Learn into `folder`.

    Args:
        recipe: of the planned merge; `learn` has the learner, its settings, and the domain of each source.
        start: the merge as a recipe of `mmgrid merge`.
        sources: name → folder of the checkpoint.
        corpora: domain → folder of the prepared domain.
    """
    from safetensors.torch import save_file

    from mmgrid.learning import LearningDomain, learn
    from mmgrid.paradigms.recommender import Recommender

    told = dict(recipe["learn"])
    learner, of = told.pop("by"), told.pop("domains")
    domains = {name: LearningDomain(Recommender(path), corpora[of[name]]) for name, path in sources.items()}
    settings = LearningSettings.model_validate(told)  # all of them, checked when the grid was read
    found = learn(learner, start, domains, settings, progress=progress)
    files = {}
    for name, measured in found.statistics.items():
        files[name] = f"{file_stem(name)}.{KINDS[learner]}.safetensors"
        save_file(dict(measured), folder / files[name])
    method, options = found.recipe.method, dict(found.recipe.options)
    weights = {str(source.name): 1.0 if source.weight is None else source.weight for source in found.recipe.sources}
    rules = [
        {
            "tensors": list(rule.patterns),
            "method": method,
            "options": options,
            "scale": 1.0,
            "weights": dict(rule.weights),
        }
        for rule in found.recipe.rules
        if rule.weights is not None
    ]
    values = {"method": method, "options": options, "weights": weights, "rules": rules, "statistics": files}
    write_json(folder / VALUES_FILE, values | {"losses": list(found.losses), "users": dict(found.users)})
    ends = {"first_loss": found.losses[0], "last_loss": found.losses[-1]} if found.losses else {}
    return {"users": sum(found.users.values()), **ends}


def with_learned(recipe: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Any]:
    """A merge's recipe with what was learned for it; `statistics` then are paths by the sources' names."""
    if LEARNED not in folders:
        return dict(recipe)
    folder = folders[LEARNED]
    found = json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))
    files = {name: folder / file for name, file in found["statistics"].items()}
    values = {key: found[key] for key in ("method", "options", "weights", "rules")}
    return {**recipe, **values, "statistics": files}
