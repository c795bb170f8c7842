"""How a model is written as another one and a small part: codes of differences, masks, compressed bytes. Only numpy."""
