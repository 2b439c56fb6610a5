"""Infer, and tensors on the wire."""
