"""Anthropic's REST API over the mesh: a thin translation to the jobs of `openai`, and back."""
