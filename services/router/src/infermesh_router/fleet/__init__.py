"""Tracks the endpoints: their connections, health reports, load and circuit breakers."""
