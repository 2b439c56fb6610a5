"""Embeddings, reranking and scores over REST: OpenAI's, Cohere's, Jina's, vLLM's and Ollama's bodies."""
