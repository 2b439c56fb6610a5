"""The account of a GGUF file: every key and tensor is applied, known to be without effect, or refused by name."""
