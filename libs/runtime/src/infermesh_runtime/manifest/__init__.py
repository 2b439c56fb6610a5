"""A model folder's manifest, and what it says of a model."""
