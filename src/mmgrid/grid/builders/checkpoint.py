"""`checkpoint/<paradigm>/<domain>/<phase>`: the model of the previous phase, trained on one more phase."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmgrid import __version__
from mmgrid.cards import CARD_FILE, checkpoint_card, read_json
from mmgrid.data import Calendar, Corpus, Phase, catalogue_at
from mmgrid.data.catalogue import Catalogue
from mmgrid.grid.builders.workplace import Workplace
from mmgrid.grid.cells.chains import IN_ONE_GO
from mmgrid.grid.cells.evaluations import evaluated_users
from mmgrid.grid.cells.fingerprint import recipe_values
from mmgrid.grid.cells.sources import evaluation_values
from mmgrid.grid.file.load import Grid
from mmgrid.grid.file.spec import OF_EMBEDDING_MODELS
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.contract import CodesFolder, TrainingStart
from mmgrid.paradigms.facts import FACTS_FILE
from mmgrid.seeds import derive
from mmgrid.training import StepProgress
from mmgrid.training.fit import SAVE_SECONDS, fit
from mmgrid.training.lora import put_adapter, trained_parameters
from mmgrid.training.processes import in_processes
from mmgrid.training.recomputation import recomputed
from mmgrid.training.rehearsal import Rehearsal, rehearsed
from mmgrid.training.share import own_share


@dataclass(frozen=True)
class TrainingTask:
    """What to train: a paradigm on a phase of a domain. until: the newest phase in the training data."""

    paradigm: str
    domain: str
    phase: str
    until: str
    catalogue: Catalogue

    def interval(self, calendar: Calendar) -> Phase:
        """The interval whose interactions are targets; for the phase `all`, from `pretrain` to `until`."""
        if self.phase == IN_ONE_GO:
            return Phase(IN_ONE_GO, calendar.pretrain.start, calendar.phase(self.until).end)
        return calendar.phase(self.phase)

    def end_of_the_phase_before(self, calendar: Calendar) -> int | None:
        before = {"phase1": "pretrain", "phase2": "phase1"}.get(self.phase)
        return calendar.phase(before).end if before else None


def train(task: TrainingTask, recipe: Any, *, place: Workplace, **inputs: Any) -> Mapping[str, Any]:
    """Train a checkpoint and write it, in as many processes as the recipe says; arguments as of `train_here`."""
    if recipe.processes == 1:
        return train_here(task, recipe, place=place, **inputs)
    work = partial(_train_with_others, task, recipe, replace(place, progress=None), inputs)
    return in_processes(work, recipe.processes, place.progress)


def _train_with_others(
    task: TrainingTask, recipe: Any, place: Workplace, inputs: Mapping[str, Any], progress: StepProgress | None
) -> Mapping[str, Any]:
    return train_here(task, recipe, place=replace(place, progress=progress), **inputs)


def train_here(
    task: TrainingTask,
    recipe: Any,
    *,
    corpus: Path,
    start: Path | None,
    base: Path | None,
    needs: Mapping[str, Any],
    calendar: Calendar,
    seed: int,
    place: Workplace,
    declared: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Train a checkpoint in this process and write it. Of several processes, the first one writes it.

    Args:
        recipe: the recipe of the paradigm.
        corpus: the folder of the prepared domain.
        start, needs: see `TrainingStart`.
        base: the folder of Θ⁽⁰⁾, if weights decay towards it; None where it is the start.
        seed: the seed of the grid.
        declared: facts for the checkpoint's `mmgrid.json`.
    """
    phase = task.interval(calendar)
    # Nothing at or after the end of the phase is read, so nothing can leak.
    known = Corpus.load(corpus, until=phase.end)
    items = catalogue_at(known, task.catalogue, phase.end, before=task.end_of_the_phase_before(calendar))
    histories = known.histories(phase.end)
    own_seed = derive(seed, "checkpoint", task.paradigm, task.domain, task.phase)
    beginning = TrainingStart(start, items, task.domain, own_seed, seed, needs)
    paradigm, model = PARADIGMS[task.paradigm].load().start(recipe, beginning)
    training = recipe.training(task.phase)
    if recipe.lora is not None:
        assert start is not None  # a paradigm without a backbone refuses the key
        put_adapter(model, recipe.lora, start, paradigm.beside_adapter(model), seed=own_seed)
    examples, loss = paradigm.examples(histories, items, phase, own_seed), paradigm.loss
    if recipe.rehearsal and task.end_of_the_phase_before(calendar) is not None:
        earlier = Phase("pretrain", calendar.pretrain.start, phase.start)
        old = paradigm.examples(known.histories(phase.start), items, earlier, own_seed)
        examples, loss = Rehearsal(examples, old, recipe.rehearsal, own_seed), rehearsed(paradigm.loss)
    torch.manual_seed(own_seed)  # only dropout draws from torch's global generator
    model.train()
    with recomputed(model) if place.training.recompute_activations else nullcontext():
        report = fit(
            model,
            examples,
            loss,
            training,
            place.step_folder,
            seed=own_seed,
            progress=place.progress,
            save_seconds=place.save_seconds(SAVE_SECONDS),
            tracking=place.tracking,
            base=base or start,
            sharded=recipe.sharding == "full",
        )
    if own_share().index:
        return {}
    paradigm.save(model, place.folder)
    about = {"paradigm": task.paradigm, "domain": task.domain, "phase": task.phase}
    if recipe.lora is not None:
        about["adapter_of"] = read_json(place.folder / ADAPTER_CONFIG)["base_model_name_or_path"]
    write_facts(place.folder, {**about, **declared, **paradigm.facts(model)})
    (place.folder / "training.json").write_text(json.dumps({"losses": report.losses}), encoding="utf-8")
    return {
        "steps": report.steps,
        "examples": report.examples,
        "work": report.steps * training.batch_size,
        "loss": report.losses[-1][2] if report.losses else None,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        **({"processes": recipe.processes} if recipe.processes > 1 else {}),
        **({"trained_parameters": trained_parameters(model)} if recipe.lora is not None else {}),
    }


def training_needs(folders: Mapping[str, Path], *, shared_codebook: bool) -> dict[str, Any]:
    """The paradigm's needs, read from upstream folders, by the names in `ParadigmSpec.training_needs`."""
    from mmgrid.grid.builders.vectors import load_vectors

    found: dict[str, Any] = {}
    if "codes" in folders:
        found["codes"] = CodesFolder(folders["codes"], shared_codebook)
    for need, role in (("item_vectors", "vectors"), ("title_vectors", "titles")):
        if role in folders:
            found[need] = load_vectors(folders[role])
    return found


def evaluation_protocol(grid: Grid, paradigm: str) -> dict[str, Any]:
    """How the grid evaluates models of a paradigm, for the facts of a checkpoint."""
    spec = grid.spec
    protocol: dict[str, Any] = {
        "target": spec.evaluation.target,
        "max_users": evaluated_users(spec, paradigm),
        "sample_seed": spec.all_seeds[0],
        "values": evaluation_values(spec, paradigm),
    }
    if spec.item_vectors.source == "sentence-transformers" and PARADIGMS[paradigm].evaluation_needs:
        folder = grid.path(str(spec.item_vectors.path))
        model = str(folder) if folder.is_dir() else str(spec.item_vectors.path)
        revision = spec.item_vectors.revision
        values = recipe_values(spec.item_vectors)
        asked = {name: value for name, value in values.items() if name in OF_EMBEDDING_MODELS}
        protocol["embedder"] = {"source": "sentence-transformers", "model": model, "revision": revision, **asked}
    return protocol


def write_facts(folder: Path, declared: Mapping[str, Any]) -> None:
    """Write `mmgrid.json` next to the weights, which describes the checkpoint outside of a store, and a model card."""
    facts = {"mmgrid": __version__, **declared}
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(checkpoint_card(folder), encoding="utf-8")
