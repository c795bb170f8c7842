"""The grid file: its keys, and how it is read."""
