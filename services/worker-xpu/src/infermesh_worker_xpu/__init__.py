"""Worker for GPUs: runs models on torch, on Intel XPU, CUDA or the CPU."""
