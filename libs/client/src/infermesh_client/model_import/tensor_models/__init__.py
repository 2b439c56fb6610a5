"""Imports models of tensors: ONNX, OpenVINO IR, TensorFlow Lite, Paddle, torch.export and TorchScript files."""
