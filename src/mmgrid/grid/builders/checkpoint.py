"""`checkpoint/<paradigm>/<domain>/<phase>`: the model of the phase before, trained on one phase more."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmgrid import __version__
from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.data import Items, Phase, catalogue_at
from mmgrid.files import sha256_files
from mmgrid.grid.builders.external_checkpoint import take_over
from mmgrid.grid.builders.job import Job
from mmgrid.paradigms import SasrecRecipe, SembRecipe, TextRecipe
from mmgrid.paradigms.facts import FACTS_FILE
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.paradigms.text.paradigm import Text
from mmgrid.seeds import derive
from mmgrid.semantic_ids.codebook_files import ARRAYS_FILE
from mmgrid.semantic_ids.item_codes import ItemCodes
from mmgrid.training.fit import SAVE_SECONDS, fit


def build(job: Job) -> Mapping[str, Any]:
    recipe = job.recipe
    if "files" in recipe:
        return take_over(job)
    name, domain, phase = recipe["paradigm"], job.cell.key[1], _phase(job)
    # Nothing at or after the phase's end is read, so nothing of it can leak.
    corpus = job.corpus(until=phase.end)
    items = catalogue_at(corpus, recipe["catalogue"], phase.end, before=_end_of_the_phase_before(job))
    histories = corpus.histories(phase.end)
    seed = derive(recipe["seed"], "checkpoint", name, domain, recipe["phase"])
    paradigm, model = _start(job, items, seed)
    training = job.grid.spec.recipe(name).training(recipe["phase"])
    torch.manual_seed(seed)  # dropout is the one thing that draws from torch's own generator
    model.train()
    report = fit(
        model,
        paradigm.examples(histories, items, phase, seed),
        paradigm.loss,
        training,
        job.step_folder,
        seed=seed,
        progress=job.progress,
        save_seconds=job.save_seconds(SAVE_SECONDS),
    )
    paradigm.save(model, job.folder)
    blocks = {"blocks": paradigm.blocks(model)} if isinstance(paradigm, Semid) else {}
    write_facts(job, phase=recipe["phase"], domain=domain, **blocks)
    (job.folder / "training.json").write_text(json.dumps({"losses": report.losses}))
    return {
        "steps": report.steps,
        "examples": report.examples,
        "work": report.steps * training.batch_size,
        "loss": report.losses[-1][2] if report.losses else None,
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }


def _phase(job: Job) -> Phase:
    """The interval whose interactions are targets; `all` reaches from the first phase to the newest one."""
    calendar, recipe = job.calendar, job.recipe
    if recipe["phase"] == "all":
        return Phase("all", calendar.pretrain.start, calendar.phase(recipe["until"]).end)
    return calendar.phase(recipe["phase"])


def _end_of_the_phase_before(job: Job) -> int | None:
    before = {"phase1": "pretrain", "phase2": "phase1"}.get(job.recipe["phase"])
    return job.calendar.phase(before).end if before else None


def _start(job: Job, items: Items, seed: int) -> tuple[Any, nn.Module]:
    """The `Paradigm`, and the model to go on from: the phase before, the paradigm's base, or (sasrec) a new one."""
    recipe = job.grid.spec.recipe(job.recipe["paradigm"])
    if isinstance(recipe, SasrecRecipe):
        if "start" in job.cell.upstream:
            return Sasrec.load(job.upstream("start"))
        return Sasrec(recipe.history_length), Sasrec.create(recipe, items, seed)
    start = job.upstream("start")
    if isinstance(recipe, SembRecipe):
        return Semb.load(start, recipe)
    if isinstance(recipe, TextRecipe):
        return Text.load(start, recipe)
    if "codes" not in job.cell.upstream:
        return Semid.load(start, recipe)
    codes = ItemCodes.load(job.upstream("codes"))
    return Semid.create(recipe, load_model(start), load_tokenizer(start), codes, _block(job), job.recipe["seed"])


def _block(job: Job) -> str:
    """The name of a domain's token block: the domain's, or `shared`, and which codebook it is."""
    shared = job.grid.spec.semantic_ids.codebook == "shared"
    codes = job.upstream("codes")
    digest = sha256_files(codes)[ARRAYS_FILE]["sha256"][:8]
    return f"{'shared' if shared else job.cell.key[1]}/{digest}"


def write_facts(job: Job, *, phase: str | None, domain: str | None, **more: Any) -> None:
    """`mmgrid.json` beside the weights: what the checkpoint is, for those who find it outside a store."""
    facts = {
        "mmgrid": __version__,
        "paradigm": job.cell.key[0],
        "domain": domain,
        "phase": phase,
        "phases": job.calendar.as_dates(),
        "recipe": dict(job.recipe),
        **more,
    }
    (job.folder / FACTS_FILE).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
