"""The baseline `sasrec`."""
