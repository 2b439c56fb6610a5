"""Tensors of several sizes over every way through the mesh, and small ones from many clients, beside peers."""
