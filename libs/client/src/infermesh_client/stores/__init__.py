"""Finds or downloads models where other programs and hubs keep them: Ollama's store, ModelScope, kept downloads."""
