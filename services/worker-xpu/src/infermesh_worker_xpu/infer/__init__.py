"""Runs models of tensors: torch.export programs and TorchScript on torch, ONNX on onnxruntime."""
