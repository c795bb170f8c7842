"""The paradigm `pooled`: any language model as it is."""
