"""Keeps responses for a while in one SQLite file, each for its own API key."""
