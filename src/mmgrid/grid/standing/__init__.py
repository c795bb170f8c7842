"""Where a grid stands: what is built, why not, what it costs, and its results."""
