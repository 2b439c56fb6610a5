"""Keeps the set of endpoint addresses, from settings, DNS names, a file and registrations."""
