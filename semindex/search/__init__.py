"""Vectors or words to the nearest texts."""
