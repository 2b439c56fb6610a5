"""What an import finds out about a model before it copies it."""
