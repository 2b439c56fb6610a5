"""Reads what the router needs to know about a request before sending it on."""
