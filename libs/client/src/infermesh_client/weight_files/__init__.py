"""Reads the headers of weight files within bounds, and says what is wrong with a file before it is copied."""
