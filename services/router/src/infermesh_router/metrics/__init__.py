"""Measures the router's own work for Prometheus."""
