"""Samples tokens on the device."""
