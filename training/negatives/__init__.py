"""Hard negatives: mined once, or from an index that follows the training (ANCE)."""
