"""Chat templates: what a model's Jinja template gets, what it does with roles and content, and its control tokens."""
