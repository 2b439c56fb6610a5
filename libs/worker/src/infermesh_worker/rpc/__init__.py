"""A worker's gRPC services, and the conversion between messages and engine values."""
