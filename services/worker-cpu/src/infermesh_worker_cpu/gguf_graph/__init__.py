"""Builds OpenVINO graphs of decoders from GGUF files, with the weights as the file stores them."""
