"""Models before they are loaded: their folders, their estimated size, their tokenizer and chat template."""
