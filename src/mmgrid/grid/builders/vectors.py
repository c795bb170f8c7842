"""`vectors/<domain>/<table>`: item texts as vectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.backbone.text_embedder import TextEmbedder
from mmgrid.data import Corpus, Items, catalogue_at
from mmgrid.data.catalogue import Catalogue
from mmgrid.grid.file.load import Grid
from mmgrid.grid.file.spec import OF_EMBEDDING_MODELS
from mmgrid.studies.contract import VECTORS_FILE


def known_items(corpus: Path, catalogue: Catalogue, t2: int) -> Items:
    """The catalogue of a prepared domain at t2 (ms UTC)."""
    return catalogue_at(Corpus.load(corpus, until=t2), catalogue, t2)


def read_table(table: Path, items: Items, folder: Path) -> Mapping[str, Any]:
    """Read vectors from the user's parquet table."""
    from mmgrid.semantic_ids.vector_table import read_vectors

    return _save(read_vectors(table, items.ids), folder)


def embed(items: Items, embedder: TextEmbedder, folder: Path, *, titles_only: bool) -> Mapping[str, Any]:
    """Embed titles, or titles and descriptions."""
    from mmgrid.paradigms.shared.item_texts import item_texts

    return _save(embedder(item_texts(items, with_descriptions=not titles_only)), folder)


def embedder_of(grid: Grid, backbone: Path | None, *, one_copy: bool = False) -> TextEmbedder:
    """The embedder of texts: the backbone in this folder, or if it is None the embedding model of the grid.

    one_copy: whether the embedding model is loaded for one call and freed, by one process of this machine at a time. Who
    asks again and again, as evaluations do, keeps it instead.
    """
    if backbone is not None:
        return TextEmbedder(backbone)
    spec = grid.spec.item_vectors
    folder = grid.path(str(spec.path))
    options: dict[str, Any] = {name: getattr(spec, name) for name in OF_EMBEDDING_MODELS}
    model = folder if folder.is_dir() else str(spec.path)
    return TextEmbedder(model, "sentence-transformers", spec.revision, one_copy=one_copy, **options)


def load_vectors(folder: Path) -> np.ndarray:
    """float32 [items, width]; rows as in the corpus."""
    return np.load(folder / VECTORS_FILE)


def _save(vectors: np.ndarray, folder: Path) -> Mapping[str, Any]:
    np.save(folder / VECTORS_FILE, vectors)
    return {"items": len(vectors), "width": vectors.shape[1], "work": len(vectors)}
