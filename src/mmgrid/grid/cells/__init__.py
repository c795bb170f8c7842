"""From a grid to its cells: what there is to build, and from what."""
