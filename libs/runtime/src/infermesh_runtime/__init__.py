"""What every infermesh service process needs. Import its modules; it imports none, so `errors` is free of gRPC."""
