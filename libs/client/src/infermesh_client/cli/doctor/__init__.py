"""`infermesh doctor`: replays what clients send, and shows what becomes of it."""
