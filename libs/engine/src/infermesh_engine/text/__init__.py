"""Turns token ids into text and ends it at stop strings."""
