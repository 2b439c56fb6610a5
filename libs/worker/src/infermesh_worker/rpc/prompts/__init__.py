"""Reads the prompt of a request, and tells what became of it."""
