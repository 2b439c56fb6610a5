"""The inference engine: batches requests, runs them step by step, and turns tokens into text. Holds no device code."""
