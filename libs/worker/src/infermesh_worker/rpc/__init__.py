"""The gRPC services of a worker, and the conversion between protobuf messages and engine values."""
