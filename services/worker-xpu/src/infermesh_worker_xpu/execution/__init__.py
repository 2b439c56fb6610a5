"""Runs the model: forward pass, KV cache, captured graphs, and the runner that the engine calls."""
