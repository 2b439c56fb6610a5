"""Runs the decoder of a GGUF file in torch, built from the account of the file."""
