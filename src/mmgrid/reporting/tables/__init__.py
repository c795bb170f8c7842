"""The tables of the report: their columns and rows, how numbers and names are printed, and their export."""
