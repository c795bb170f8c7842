"""Expands a grid into its cells, each with its recipe and upstream cells."""
