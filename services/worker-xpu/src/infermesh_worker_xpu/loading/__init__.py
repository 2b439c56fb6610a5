"""Loads weights and prepares the model: merged, quantised, compiled."""
