"""Relays requests between clients and endpoints: retries, hedges, and moves streams when an endpoint fails."""
