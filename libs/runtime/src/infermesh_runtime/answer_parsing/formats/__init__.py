"""One small parser for each format in which a family of models writes tool calls."""
