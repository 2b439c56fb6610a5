"""Worker for GPUs: runs transformers models on torch, on Intel XPU, CUDA or the CPU."""
