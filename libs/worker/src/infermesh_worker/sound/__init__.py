"""Reads sound files for models that listen. Runs in the engine process, as its decoders meet hostile files."""
