"""Reads the serialised requests of each kind: what they want, and how large they are."""
