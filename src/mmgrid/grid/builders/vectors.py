"""`vectors/<domain>/<table>`: the items' texts as vectors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.data import Corpus, Items, catalogue_at
from mmgrid.grid.builders.job import Job

VECTORS_FILE = "vectors.npy"  # float32 [items, width]; rows as in the corpus
TEXT_TOKENS = 64

Embed = Callable[[Sequence[str]], np.ndarray]


def build(job: Job) -> Mapping[str, Any]:
    t2 = job.calendar.t2
    items = catalogue_at(Corpus.load(job.upstream("corpus"), until=t2), job.recipe["catalogue"], t2)
    vectors = _vectors(job, items)
    np.save(job.folder / VECTORS_FILE, vectors)
    return {"items": len(vectors), "width": vectors.shape[1], "work": len(vectors)}


def _vectors(job: Job, items: Items) -> np.ndarray:
    spec = job.grid.spec.item_vectors
    if "file" in job.recipe:
        from mmgrid.semantic_ids.vector_table import read_vectors

        return read_vectors(job.grid.path(str(spec.path)) / f"{job.recipe['domain']}.parquet", items.ids)
    if job.recipe.get("texts") == "titles":
        from mmgrid.paradigms.shared.prompts import one_line  # as the paradigm `text` says them

        texts = [one_line(title) for title in items.titles]
    else:
        texts = [f"{title} {text}".strip() for title, text in zip(items.titles, items.descriptions, strict=True)]
    backbone = job.upstream("backbone") if "backbone" in job.cell.upstream else None
    return embedder(job, backbone)(texts)


def embedder(job: Job, backbone: Path | None) -> Embed:
    """What makes vectors of texts: the backbone in that folder, or without one the grid's own embedding model."""
    if backbone is None:
        from mmgrid.backbone.sentence_vectors import sentence_vectors

        path = str(job.grid.spec.item_vectors.path)
        folder = job.grid.path(path)
        model = folder if folder.is_dir() else path
        revision = job.grid.spec.item_vectors.revision
        return lambda texts: sentence_vectors(model, texts, most_tokens=TEXT_TOKENS, revision=revision)
    from mmgrid.backbone.load import load_model, load_tokenizer  # who only reads vectors needs no torch
    from mmgrid.backbone.pooling import text_vectors
    from mmgrid.grid.builders.device import device

    model, tokenizer = load_model(backbone, head=False), load_tokenizer(backbone)
    model.to(device())  # type: ignore[arg-type]
    return lambda texts: text_vectors(model, tokenizer, texts, TEXT_TOKENS)
