"""Runs the program of a merge over tensors: thresholds, inner products, arithmetic."""
