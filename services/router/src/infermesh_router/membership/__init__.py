"""Keeps the set of endpoint addresses: from settings, names, a file, and registrations."""
