"""The set of tokens over which each beam search step is normalised. Imports no torch, so that recipes can use it."""

from typing import Literal

Renormalise = Literal["children", "level", "vocabulary"]
"""The children of the beam's current node, all codes of the level, or the whole vocabulary."""
