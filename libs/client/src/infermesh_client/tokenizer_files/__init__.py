"""Makes the tokenizer.json of a model from what its folder has: SentencePiece or tiktoken files, and settings."""
