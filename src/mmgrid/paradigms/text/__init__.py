"""The text-grounded paradigm `text` (BIGRec)."""
