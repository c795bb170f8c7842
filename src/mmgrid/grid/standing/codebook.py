"""The codebook and the item vectors behind the codes of a built checkpoint."""

from pathlib import Path

import numpy as np

from mmgrid.backbone.text_embedder import TextEmbedder
from mmgrid.data import Items
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.shared.item_texts import item_texts
from mmgrid.store.lineage import ancestor
from mmgrid.studies.contract import VECTORS_FILE

_COMPARED = 8  # items
_TOLERANCE = 1e-3  # of a vector's length; other machines round differently


def codebook_folder(checkpoint: Path, given: Path | None, called: object = None) -> Path:
    """The folder of a checkpoint's codebook: the given one, or the one that it was built from.

    called: the checkpoint's name for an error, if it lies in a temporary folder.

    Raises CheckpointError if none is known.
    """
    found = given or ancestor(checkpoint, "codes")
    if found is None:
        raise CheckpointError(
            f"{called or checkpoint}: the codebook of its codes is not found; name its folder (--codes)"
        )
    return found


def item_vectors(codes: Path, known: Items, new: Items, embedder: TextEmbedder | None) -> np.ndarray:
    """float32 [M, D]: the vectors of new items, made as those that the codes were made from.

    Raises CheckpointError if no embedder is known, or the vectors of known items come out differently.
    """
    if embedder is None:
        raise CheckpointError(
            f"{codes}: the model that embeds items is not found; name it (--embedder), or the vectors (--vectors)"
        )
    if vectors := ancestor(codes, "vectors"):
        stored = np.load(vectors / VECTORS_FILE, mmap_mode="r")[: min(_COMPARED, len(known))]
        texts = item_texts(known, with_descriptions=True)[: len(stored)]
        again = embedder(texts)
        if again.shape != stored.shape or np.abs(again - stored).max(initial=0) > _TOLERANCE * np.abs(stored).max():
            raise CheckpointError(
                f"{embedder.model}: gives other vectors than those that the codes were made from ({vectors}); name the "
                "right model (--embedder), or the vectors (--vectors)"
            )
    return embedder(item_texts(new, with_descriptions=True))
