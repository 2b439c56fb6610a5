"""Tensors as the Open Inference Protocol writes them, and the same bytes as our own messages."""
