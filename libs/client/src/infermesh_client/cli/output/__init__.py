"""How the command prints: tables that fold, words for states and reasons, and signs of waiting."""
