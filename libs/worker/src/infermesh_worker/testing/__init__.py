"""Workers for tests: simulated ones, ones that fail on command, and links that can be cut. No service imports it."""
