"""`infermesh top`, `ui` and `explain`: what the mesh is doing, and what it did with a request."""
