"""Loads models on endpoints, for a request or an operator."""
