"""Compares the first tokens of an imported model with those that its source's own weights give."""
