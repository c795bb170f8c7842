"""`vectors/<domain>/<table>`: the items' texts as vectors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmgrid.data import Corpus, catalogue_at
from mmgrid.grid.build.job import Job

VECTORS_FILE = "vectors.npy"  # float32 [items, width]; rows as in the corpus
TEXT_TOKENS = 64


def build(job: Job) -> Mapping[str, Any]:
    from mmgrid.backbone.load import load_model, load_tokenizer  # who only reads vectors needs no torch
    from mmgrid.backbone.pooling import text_vectors

    t2 = job.calendar.t2
    items = catalogue_at(Corpus.load(job.upstream("corpus"), until=t2), job.recipe["catalogue"], t2)
    backbone = job.upstream("backbone")
    texts = [f"{title} {text}".strip() for title, text in zip(items.titles, items.descriptions, strict=True)]
    vectors = text_vectors(load_model(backbone, head=False), load_tokenizer(backbone), texts, TEXT_TOKENS)
    np.save(job.folder / VECTORS_FILE, vectors)
    return {"items": len(vectors), "width": vectors.shape[1], "work": len(vectors)}
