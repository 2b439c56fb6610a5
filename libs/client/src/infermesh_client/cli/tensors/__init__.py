"""The commands infer and embed, and the files that they read."""
