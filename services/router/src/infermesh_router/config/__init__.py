"""Reads the router's settings and mesh.yaml, and turns them into the rules of each room."""
