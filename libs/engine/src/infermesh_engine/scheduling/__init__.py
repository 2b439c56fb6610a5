"""Decides which sequences run in a step, and where their KV blocks are."""
