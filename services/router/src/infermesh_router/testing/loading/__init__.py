"""Test helpers for models that come and go: scripted workers that load them, and what places them there."""
