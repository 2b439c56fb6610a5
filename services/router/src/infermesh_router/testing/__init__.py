"""Test helpers: routers and scripted workers inside the test's process. No service imports them."""
