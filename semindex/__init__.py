"""The library: encoding, searching, measuring and serving. Imports neither paddlenlp nor any training code."""
