"""Compares the engine on OpenVINO and the whole mesh with openvino-genai. Run mesh.py."""
