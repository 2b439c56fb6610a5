"""Chooses an endpoint for a request: filters, scorers and a pick over frozen snapshots. Does no I/O."""
