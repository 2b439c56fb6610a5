"""Measures the router: router_overhead.py what it adds to a request, fleet.py how well it chooses."""
