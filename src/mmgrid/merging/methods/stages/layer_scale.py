"""Scaling a task vector by depth: the stage of LiNeS."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.stages.base import RunThreshold, Stage
from mmgrid.merging.methods.stages.place import Place


class LayerScale(Stage):
    """Multiply by a factor that grows linearly from `first` (embeddings, first layer) to `last` (last layer, head).

    Paper: Wang et al., "LiNeS: post-training layer scaling prevents forgetting and enhances model merging", ICLR 2025,
    https://arxiv.org/abs/2410.17146, eq. 3.
    """

    first: float = Field(default=0.5, description="factor of the first layer")
    last: float = Field(default=1.0, description="factor of the last layer")

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        return np.multiply(values, np.float32(self.first + (self.last - self.first) * place.depth), out=values)
