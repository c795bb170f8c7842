"""Runs a program over tensors: thresholds, inner products, arithmetic."""
