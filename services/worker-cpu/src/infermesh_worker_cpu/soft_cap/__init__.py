"""Attention whose scores are soft-capped, which OpenVINO's PagedAttention cannot compute."""
