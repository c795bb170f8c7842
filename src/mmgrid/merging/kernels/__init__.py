"""Compiled loops for the slowest paths of a merge: optional, and bit for bit equal to the numpy paths."""
