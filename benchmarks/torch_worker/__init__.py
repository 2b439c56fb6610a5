"""Compares worker-xpu with transformers: xpu.py on processors, gpu.py on an accelerator, triton_attention.py alone."""
