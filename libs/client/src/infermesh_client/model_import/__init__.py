"""Owns bringing models into the models root. `importer` is the whole; the other modules are its steps."""
