"""Chooses an endpoint for a request: pure filters, scorers and a pick over frozen snapshots."""
