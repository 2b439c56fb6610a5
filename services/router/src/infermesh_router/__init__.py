"""The router: one address for every worker, with OpenAI's API and gRPC in front of them."""
