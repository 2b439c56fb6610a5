"""Chooses the next token: logit bias, penalties, grammars, filters and random numbers."""
