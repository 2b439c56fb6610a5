"""Decides when a request may go to an endpoint: at once, in its turn, or never."""
