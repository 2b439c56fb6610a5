"""Reads what the router needs to know about a request before it sends it on."""
