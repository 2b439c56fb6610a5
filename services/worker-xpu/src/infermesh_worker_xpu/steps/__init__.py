"""Moves a step's inputs to the device and its results back."""
