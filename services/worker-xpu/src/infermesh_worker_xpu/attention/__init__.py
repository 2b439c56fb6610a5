"""Paged attention: the function that transformers models call, and the kernels that compute it."""
