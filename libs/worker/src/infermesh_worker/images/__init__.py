"""Images in prompts: their size, their pixels, and the tokens that stand for them."""
