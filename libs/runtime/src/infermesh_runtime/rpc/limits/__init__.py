"""What a server bounds before it reads a message: memory, and calls in progress."""
