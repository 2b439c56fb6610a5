"""Prompts as hashes of blocks, and which endpoint's prefix cache probably holds them."""
