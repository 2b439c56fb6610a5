"""The worker that runs models on the CPU with OpenVINO."""
