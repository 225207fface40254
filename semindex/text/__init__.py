"""Files of text, and texts to token ids."""
