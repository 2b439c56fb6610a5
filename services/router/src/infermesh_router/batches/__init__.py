"""OpenAI's /v1/files and /v1/batches: requests that run behind all others, and their files."""
