"""What an engine is asked and what it answers. Nothing here depends on a wire format."""
