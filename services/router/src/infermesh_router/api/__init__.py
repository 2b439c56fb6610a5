"""Implements the router's gRPC services, except OpenAI's."""
