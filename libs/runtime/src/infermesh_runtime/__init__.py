"""What every infermesh service process needs. Import the modules; this package imports none, so `errors` stays free of gRPC."""
