"""The basis of the engine: floating-point formats, runs of elements, buffers, threads, exact sums."""
