"""Imports models that turn text into speech: Kokoro, as an ONNX file with its voices and its vocabulary."""
