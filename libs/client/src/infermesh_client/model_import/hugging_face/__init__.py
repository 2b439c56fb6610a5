"""Checks a Hugging Face folder before it is copied: its checkpoint, its weights and its tokenizer."""
