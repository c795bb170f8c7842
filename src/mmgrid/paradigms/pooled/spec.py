"""The spec of `pooled`."""

from mmgrid.paradigms.spec import ParadigmSpec


class PooledSpec(ParadigmSpec):
    """Any language model, without training."""

    name = "pooled"
    implementation = "mmgrid.paradigms.pooled.paradigm:Pooled"
    reads_texts = True
    seconds = (0.0, 1.5e-3)


SPEC = PooledSpec()
