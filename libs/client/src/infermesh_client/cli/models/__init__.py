"""`infermesh models`: lists, imports, loads, unloads and removes models."""
