"""OpenAI's REST API over the mesh: JSON in and out, server-sent events. Knows nothing of HTTP, which Envoy speaks."""
