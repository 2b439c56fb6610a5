"""Reads GGUF files and writes the tokenizer and configuration that they describe."""
