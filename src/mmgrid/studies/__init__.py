"""Questions asked of a grid, one file each, answered by tidy tables."""
