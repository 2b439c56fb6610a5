"""Chooses the next token: penalties, grammars, probabilities, random numbers."""
