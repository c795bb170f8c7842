"""`base/<paradigm>`: Θ⁽⁰⁾ of a paradigm, the untrained model that all its checkpoints start from."""

from collections.abc import Mapping
from typing import Any

from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.grid.build.checkpoint import write_facts
from mmgrid.grid.build.job import Job
from mmgrid.paradigms import SembRecipe
from mmgrid.paradigms.semb import Semb
from mmgrid.seeds import derive


def build(job: Job) -> Mapping[str, Any]:
    backbone, recipe = job.upstream("backbone"), job.grid.spec.recipe("semb")
    assert isinstance(recipe, SembRecipe)
    paradigm, model = Semb.create(
        recipe,
        load_model(backbone, head=False),
        load_tokenizer(backbone),
        derive(job.recipe["seed"], "base", "semb"),
    )
    paradigm.save(model, job.folder)
    write_facts(job, phase=None, domain=None)
    return {"parameters": model.num_parameters()}
