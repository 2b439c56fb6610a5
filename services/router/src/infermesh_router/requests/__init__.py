"""Reads what the router needs to know of a request before it sends it on."""
