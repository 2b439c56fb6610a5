"""Runs Kokoro, which turns text into speech, through onnxruntime."""
