"""What ends a run on a cluster as a whole."""


class ClusterError(RuntimeError):
    """The cluster cannot be reached, its head is lost, or no machine of it can build cells."""
