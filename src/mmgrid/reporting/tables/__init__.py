"""The tables of the report: columns, numbers, and what each table says."""
