"""Builds cells on the machines of a Ray cluster."""

from mmgrid.runners.cluster.connection import connected
from mmgrid.runners.cluster.errors import ClusterError
from mmgrid.runners.cluster.ray_crew import RayCrew

__all__ = ["ClusterError", "RayCrew", "connected"]
