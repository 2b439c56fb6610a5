"""What the benchmarks of the engine and of the torch worker share: contestants and their prompts."""
