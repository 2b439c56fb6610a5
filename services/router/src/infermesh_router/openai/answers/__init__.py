"""Builds what clients get: whole answers and the events of streams."""
