"""The processes that share a model, one for each device: rank 0 is the engine process, and starts the others."""
