"""Writes the output folder of a merge: weights, record, model card, companions, journal."""
