"""`base/<paradigm>`: Θ⁽⁰⁾ of a paradigm, the untrained model that all its checkpoints start from.

That of semid is the backbone alone: the token rows of a domain belong to its checkpoints, and have no base.
"""

from collections.abc import Mapping
from typing import Any

from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.random_weights import with_random_weights
from mmgrid.grid.builders.checkpoint import write_facts
from mmgrid.grid.builders.job import Job
from mmgrid.paradigms import SembRecipe, TextRecipe
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.text.paradigm import Text
from mmgrid.seeds import derive


def build(job: Job) -> Mapping[str, Any]:
    name, backbone = job.recipe["paradigm"], job.upstream("backbone")
    recipe, tokenizer = job.grid.spec.recipe(name), load_tokenizer(backbone)
    model = load_model(backbone, head=not isinstance(recipe, SembRecipe))
    if isinstance(recipe, SembRecipe):
        paradigm, model = Semb.create(recipe, model, tokenizer, derive(job.recipe["seed"], "base", name))
        paradigm.save(model, job.folder)
    elif isinstance(recipe, TextRecipe):
        paradigm, model = Text.create(recipe, model, tokenizer)
        paradigm.save(model, job.folder)
    else:
        if job.recipe.get("weights") == "drawn":
            model = with_random_weights(model, derive(job.recipe["seed"], "base", name))
        model.save_pretrained(str(job.folder))
        tokenizer.save_pretrained(str(job.folder))
    write_facts(job, phase=None, domain=None)
    return {"parameters": sum(weight.numel() for weight in model.parameters())}
