"""What the installed workers do for an import: they check, try and prove a model."""
