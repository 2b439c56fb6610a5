"""Owns the command `infermesh`: arguments in, lines and exit codes out. `app` is its entry."""
