"""Imports models of tensors: ONNX, OpenVINO IR, TensorFlow Lite and Paddle files."""
