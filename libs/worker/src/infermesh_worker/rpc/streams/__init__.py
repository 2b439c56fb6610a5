"""What Generate and GenerateMany write, and when."""
