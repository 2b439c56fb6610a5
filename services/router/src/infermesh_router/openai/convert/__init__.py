"""Converts OpenAI's requests to jobs: GenerateRequests, and how to answer."""
