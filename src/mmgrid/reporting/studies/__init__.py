"""How each study is shown: paragraphs, tables, and the rows of its figures; other studies get a generic view."""
