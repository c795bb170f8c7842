"""`backbone`: the shared Θ⁽⁰⁾, made small from the domains' item texts, or taken over from elsewhere."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.tiny import TextRows, create, next_token_loss, train_tokenizer
from mmgrid.data import Corpus, catalogue_at
from mmgrid.grid.builders.job import Job
from mmgrid.grid.file.spec import PretrainedBackbone
from mmgrid.seeds import derive
from mmgrid.training import TrainingRecipe
from mmgrid.training.fit import SAVE_SECONDS, fit


def build(job: Job) -> Mapping[str, Any]:
    spec = job.grid.spec.backbone
    return _take_over(job, spec) if isinstance(spec, PretrainedBackbone) else _make(job)


def _take_over(job: Job, spec: PretrainedBackbone) -> Mapping[str, Any]:
    """A copy of the backbone, so that the grid stays whole whatever becomes of the original."""
    folder = job.grid.path(spec.path)
    source = str(folder) if folder.is_dir() else spec.path
    options: dict[str, Any] = {"trust_remote_code": spec.trust_remote_code}
    if not folder.is_dir() and spec.revision:
        options["revision"] = spec.revision
    model = load_model(source, **options)
    model.save_pretrained(str(job.folder))
    load_tokenizer(source, **options).save_pretrained(str(job.folder))
    return {"parameters": model.num_parameters()}


def _make(job: Job) -> Mapping[str, Any]:
    recipe = TinyRecipe.model_validate({n: v for n, v in job.recipe.items() if n in TinyRecipe.model_fields})
    seed = derive(job.recipe["seed"], "backbone")
    texts = [text for _, folder in sorted(job.roles("corpus").items()) for text in _texts(job, folder)]
    tokenizer = train_tokenizer(texts, recipe.vocabulary)
    model = create(recipe, tokenizer, seed)
    rows = TextRows(tokenizer, texts, recipe.row_tokens, seed)
    training = TrainingRecipe(
        epochs=recipe.steps * recipe.batch_rows / max(len(rows), 1),
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_rows,
        weight_decay=0.01,
        warmup_ratio=0.1,
        precision=recipe.precision,
    )
    report = fit(
        model,
        rows,
        next_token_loss,
        training,
        job.step_folder,
        seed=seed,
        progress=job.progress,
        save_seconds=job.save_seconds(SAVE_SECONDS),
    )
    model.save_pretrained(str(job.folder))
    tokenizer.save_pretrained(str(job.folder))
    (job.folder / "training.json").write_text(json.dumps({"losses": report.losses}))
    return {
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "texts": len(texts),
        "loss": report.losses[-1][2] if report.losses else None,
        "work": report.steps * recipe.batch_rows * recipe.row_tokens,
    }


def _texts(job: Job, folder: Path) -> list[str]:
    """Titles and descriptions of a domain, in an open catalogue those of items seen before t0 only."""
    t0 = job.calendar.t0
    items = catalogue_at(Corpus.load(folder, until=t0), job.recipe["catalogue"], t0)
    described = (f"{items.titles[row]} {items.descriptions[row]}".strip() for row in items.candidates)
    return [text for text in described if text]
