"""Images of conversations: reads those that bodies contain, and fetches those that they name by URL."""
