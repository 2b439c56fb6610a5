"""Splits a model's weights over the ranks of a worker, and joins what the ranks compute (tensor parallelism)."""
