"""Runs models of tensors on OpenVINO: ONNX, OpenVINO IR, TensorFlow Lite and Paddle."""
