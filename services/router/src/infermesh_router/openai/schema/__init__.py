"""What bodies of OpenAI's API may contain: every field is honoured, named as ignored, or refused by name."""
