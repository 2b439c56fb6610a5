"""Takes a model from any kind of source into a staging folder, after checking all that can be known of it."""
