"""The synthetic world: domains with known drift, turnover and tastes, as raw Amazon 2023 files."""

from mmgrid.data.synthetic.simulation import Simulation, simulate
from mmgrid.data.synthetic.world import World, WorldDomain
from mmgrid.data.synthetic.writing import write_world

__all__ = ["Simulation", "World", "WorldDomain", "simulate", "write_world"]
