"""Families of models on disk: one shared model, and for each domain a small part; read like any other model."""
