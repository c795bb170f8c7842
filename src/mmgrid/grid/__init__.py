"""Grids: the grid file, its cells and what builds them, what they cost, and how they stand in a store."""
