"""Losses over vectors, one file each. A head never sees a token."""
