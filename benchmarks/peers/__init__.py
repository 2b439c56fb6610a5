"""Compares the mesh over HTTP with servers of others on the same model, from the Python index."""
