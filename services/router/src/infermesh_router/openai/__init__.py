"""OpenAI's REST API over the mesh: JSON in and out, server-sent events. Envoy handles HTTP."""
