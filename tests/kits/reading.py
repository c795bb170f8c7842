"""All tensors of a model as the merging engine reads it: in small runs."""

from pathlib import Path

import torch
from torch import Tensor

from mmgrid.merging.models.sources import open_source


def read_in_runs(folder: Path, onto: Path | None = None, run: int = 100) -> dict[str, Tensor]:
    """The tensors of a folder, those of an adapter upon the model `onto`, read `run` elements at a time."""
    with open_source(folder, onto) as source:
        tensors = {}
        for name in source:
            info = source.info(name)
            parts = [source.read(name, start, min(start + run, info.size)) for start in range(0, info.size, run)]
            tensors[name] = torch.cat([torch.from_numpy(part.copy()) for part in parts]).reshape(info.shape)
        return tensors
