"""Runs Kokoro, which turns text into speech, on OpenVINO."""
