"""Answers Embed and Score: tokens of texts, shares of work, and the numbers that come back."""
