"""Ollama's lists of models, and their names."""
