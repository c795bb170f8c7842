"""Statistics that studies share: curves, permutation tests, Holm's correction, verdicts."""
