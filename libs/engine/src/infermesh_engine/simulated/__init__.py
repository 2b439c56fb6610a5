"""A device that is not there, for tests and benchmarks of everything above it."""
