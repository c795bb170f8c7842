"""Families: one shared model, and for each domain (or phase) a small part, from which its checkpoint comes back.

Everything works on folders of checkpoints: `build` writes a family, `expand` a plain checkpoint from it.
"""

from mmgrid.families.build import build
from mmgrid.families.compress import compress
from mmgrid.families.expand import ExpandReport, expand
from mmgrid.families.in_memory import state_dict
from mmgrid.families.recipe import FamilyRecipe, FamilySpec
from mmgrid.families.report import DomainReport, FamilyReport

__all__ = [
    "DomainReport",
    "ExpandReport",
    "FamilyRecipe",
    "FamilyReport",
    "FamilySpec",
    "build",
    "compress",
    "expand",
    "state_dict",
]
