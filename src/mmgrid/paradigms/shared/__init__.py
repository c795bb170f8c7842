"""Parts that several paradigms share: prompts, dialogues, packing, windows, dot-product ranking."""
