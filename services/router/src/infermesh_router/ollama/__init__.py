"""Ollama's REST API over the mesh: JSON in, lines of JSON out. Envoy handles HTTP."""
