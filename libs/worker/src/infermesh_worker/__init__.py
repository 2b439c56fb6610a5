"""Turns an engine into a service: a gRPC front, and one engine process for each loaded model."""
