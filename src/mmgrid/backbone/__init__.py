"""The shared base language model of a grid, and its tokenizer.

`mmgrid.backbone.tiny` creates one, `mmgrid.backbone.load` loads one; both import torch, this face does not.
"""

from mmgrid.backbone.recipe import TinyRecipe

__all__ = ["TinyRecipe"]
