"""Compiled loops for the slowest paths of a merge: optional, and equal to the numpy paths bit for bit."""
