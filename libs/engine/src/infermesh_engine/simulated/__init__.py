"""A simulated device, for tests and benchmarks of everything above a runner."""
