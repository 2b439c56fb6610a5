"""Whisper in torch: transformers' encoder and decoder, on every device of worker-xpu."""
