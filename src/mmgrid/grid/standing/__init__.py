"""The status of a grid in its store: states, reasons, costs and results."""
