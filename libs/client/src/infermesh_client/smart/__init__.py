"""`smart_chat`: answers a conversation, calls plain Python functions for the model, and says who answered how fast."""
