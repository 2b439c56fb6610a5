"""Turns a model's text into an answer's text, reasoning and tool calls, whole or as it streams."""
