"""Owns the processes of a mesh on this machine: `up` starts them, `down` stops them, a supervisor keeps them."""
