"""When each word of speech was said."""
