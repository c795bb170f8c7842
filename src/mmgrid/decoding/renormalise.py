"""Over what a step of the beam search is normalised; imports no torch, so that recipes can name it."""

from typing import Literal

Renormalise = Literal["children", "level", "vocabulary"]
"""The children of the node that the beam has reached, all codes of the level, or the whole vocabulary."""
