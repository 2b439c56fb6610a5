"""Measures a server with OpenAI's API: many streams at once, and what their times come to."""
