"""Turns text into speech with Kokoro: phonemes, voices and pieces; each worker's package runs the graph."""
