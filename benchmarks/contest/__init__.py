"""What the benchmarks of the engine, of the torch worker and of peers share: contestants and their prompts."""
