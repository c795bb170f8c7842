"""The semantic-embedding paradigm `semb` (HLLM)."""
