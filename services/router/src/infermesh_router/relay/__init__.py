"""Carries one request from its endpoint to its client, across failures."""
