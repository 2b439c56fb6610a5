"""Finds out what a server does with the requests that people's clients send."""
