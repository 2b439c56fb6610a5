"""Models that turn texts into vectors or scores, in torch: every encoder and decoder that transformers has."""
