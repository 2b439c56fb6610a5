"""Turns token ids into text, and stops at stop strings."""
