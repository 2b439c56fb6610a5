"""Paged attention: the seam to transformers, and the kernels behind it."""
