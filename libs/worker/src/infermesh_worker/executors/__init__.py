"""Runs models that do not generate text: items in, batches, results out. Knows no device and no socket."""
