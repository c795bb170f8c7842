"""Sections and the sentences in them."""
