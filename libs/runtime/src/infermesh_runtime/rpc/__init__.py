"""gRPC as every service uses it: server, interceptor, error statuses and connection options."""
