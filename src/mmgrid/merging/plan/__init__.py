"""From a recipe to a program: what is read, computed and written, in which order."""
