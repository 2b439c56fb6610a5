"""What an output may look like: JSON schemas, regular expressions and grammars, and the tokens that they allow."""
