"""Files that run in the venv of a peer."""
