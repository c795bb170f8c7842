"""What a grid knows of `pooled`."""

from mmgrid.paradigms.spec import ParadigmSpec


class PooledSpec(ParadigmSpec):
    """Any language model as it is: nothing is trained."""

    name = "pooled"
    implementation = "mmgrid.paradigms.pooled.paradigm:Pooled"
    seconds = (0.0, 1.5e-3)


SPEC = PooledSpec()
