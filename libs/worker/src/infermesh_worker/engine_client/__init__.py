"""The front's side of an engine process: starts it, watches it, and routes requests and outputs."""
