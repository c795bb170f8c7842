"""The sections of the report, and the paragraphs that summarise its tables."""
