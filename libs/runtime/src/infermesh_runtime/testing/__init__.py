"""Makes background tasks fail on demand, for tests of every package. No service imports it."""
