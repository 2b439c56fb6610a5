"""Offers a router more tokens than it can write, and measures what arrives."""
