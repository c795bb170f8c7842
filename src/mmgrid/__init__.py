"""MMGRid: grids of generative recommenders across domains and time, and what merging them does."""

__version__ = "0.1.0"
