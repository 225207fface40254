"""The base model and, one file each, the heads."""
