"""Workers for tests: simulated, scripted to fail, or behind a link that can be cut. No service imports it."""
