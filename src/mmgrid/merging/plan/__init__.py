"""From a recipe to a program: what is read, computed and written, and in which order."""
