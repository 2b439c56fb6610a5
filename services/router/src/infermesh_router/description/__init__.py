"""Describes the REST API as OpenAPI 3.1, with all its dialects in one document."""
