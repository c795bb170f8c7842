"""A merge that is put together to recommend, and kept nowhere."""

import shutil
import tempfile
import weakref
from pathlib import Path

from mmgrid.backbone.text_embedder import TextEmbedder
from mmgrid.merging import MergeRecipe, merge
from mmgrid.merging.cost import estimate
from mmgrid.paradigms.recommender import Recommender

_MEMORY = Path("/dev/shm")


def is_recipe(path: Path) -> bool:
    """Whether a path is a file that may be a merge recipe."""
    return path.suffix in (".yml", ".yaml", ".json") and path.is_file()


def open_merge(recipe: Path, embedder: TextEmbedder | None = None) -> Recommender:
    """The merge of a recipe as a recommender.

    Its files lie in a temporary folder, in memory where there is room for it, and end with the recommender.

    Raises MergeError if recipe or sources do not fit.
    """
    found = MergeRecipe.load(recipe)
    needed = 2 * estimate(found).bytes_written
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > needed
    folder = Path(tempfile.mkdtemp(prefix="mmgrid-", dir=_MEMORY if in_memory else None))
    try:
        merge(found, folder, digests=False)
        recommender = Recommender(folder, embedder=embedder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(recommender, shutil.rmtree, folder, ignore_errors=True)
    return recommender
