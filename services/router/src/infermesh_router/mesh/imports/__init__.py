"""Imports and removals of models at endpoints, and what is known of them."""
