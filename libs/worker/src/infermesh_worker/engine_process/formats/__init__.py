"""Compiles the formats that requests ask for, beside the engine's steps."""
