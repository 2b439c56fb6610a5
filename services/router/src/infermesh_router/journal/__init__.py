"""What happened in the mesh lately: events for those who watch, and a receipt of each request."""
