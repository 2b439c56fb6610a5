"""Guesses tokens ahead, and decides how many guesses a step should check."""
