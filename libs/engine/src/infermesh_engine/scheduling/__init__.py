"""Decides which sequences run in a step, and manages their KV blocks."""
