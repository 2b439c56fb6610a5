"""Measures speed and memory beside peers; each program prints one JSON document as its last line."""
