"""Background tasks: supervised, restarted, counted."""
