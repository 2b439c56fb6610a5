"""Turns speech into text as Whisper does: features, tokens, times. Knows no device; workers bring that."""
