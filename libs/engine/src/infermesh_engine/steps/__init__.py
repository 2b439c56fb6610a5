"""Runs one step of the engine: schedule, run, sample, emit."""
