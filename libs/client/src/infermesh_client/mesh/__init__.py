"""Starts, supervises and stops the processes of a mesh on this machine."""
