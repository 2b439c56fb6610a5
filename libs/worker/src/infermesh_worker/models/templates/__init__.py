"""Chat templates in a process that can be stopped."""
