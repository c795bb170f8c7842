"""Ground of the engine: floating-point formats, chunks, buffers, threads, exact sums."""
