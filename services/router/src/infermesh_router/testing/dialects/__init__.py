"""Bodies and answers of the REST APIs, for tests."""
