"""The paradigm `pooled`: any language model, without training."""
