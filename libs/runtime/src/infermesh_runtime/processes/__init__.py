"""Processes of a service: what they do at their start, and that they end with their parent."""
