"""Requests to infer: read from gRPC or REST, carried out as one call like any other, and answered in the same form."""
