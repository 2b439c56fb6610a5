"""Decides who may send requests, for what, and how many: API keys, what they allow, and their rate limits."""
