"""Measures speed and memory compared with other servers; each program prints one JSON document as its last line."""
