"""Whisper on OpenVINO: graphs of its encoder and decoder, built from a Hugging Face folder's weights."""
