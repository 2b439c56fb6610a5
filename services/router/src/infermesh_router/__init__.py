"""The router: one endpoint over every worker, and OpenAI's API in front of them. Knows no device and no model code."""
