"""What a stream has delivered, and what differs between streams of text, segments and sound."""
