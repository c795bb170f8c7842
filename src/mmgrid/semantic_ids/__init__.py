"""Semantic IDs: item vectors become codes, by quantisers that separate colliding items."""
