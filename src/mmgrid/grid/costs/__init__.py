"""What a grid costs before it is built: seconds, memory and disk of its cells."""
