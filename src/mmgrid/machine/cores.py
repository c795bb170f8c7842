"""The cores that this process may use."""


def available_cores() -> int:
    """The number of cores that affinity and limits of a container (cgroups) leave to this process; at least 1."""
    from joblib import cpu_count  # importing it takes a quarter of a second

    return cpu_count()
