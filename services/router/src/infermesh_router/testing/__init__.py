"""Runs routers and scripted workers inside a test. No service imports it."""
