"""Loads models on endpoints, because a request or an operator wants them."""
