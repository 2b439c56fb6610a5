"""The device of a worker: what it is, and how much memory models may take."""
