"""Keeps files and batches in one SQLite file, each for its own API key."""
