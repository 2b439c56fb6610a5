"""The router's settings and its mesh.yaml."""
