"""Models that turn texts into vectors or scores, on OpenVINO: graphs of Hugging Face folders, and ONNX exports."""
