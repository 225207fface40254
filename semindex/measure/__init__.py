"""Figures: how good an encoder, a result file or a run is."""
