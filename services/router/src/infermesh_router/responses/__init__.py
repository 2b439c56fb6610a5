"""OpenAI's /v1/responses: translated to the jobs of chats, answered in items, and kept for a while."""
