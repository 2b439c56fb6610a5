"""gRPC as every service uses it: the server, its interceptor, error statuses and connection options."""
