"""Ray, which is imported only where a run uses it: that takes seconds, and most users do without."""

from typing import Any

from mmgrid.runners.cluster.errors import ClusterError


def imported_ray() -> Any:
    """The module `ray`.

    Raises:
        ClusterError: it is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.util.scheduling_strategies  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ClusterError(f'--ray: {error.name} is not installed; run: pip install "mmgrid[ray]"') from None
    return ray
