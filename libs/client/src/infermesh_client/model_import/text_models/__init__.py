"""Imports models that turn texts into vectors or scores: folders of sentence-transformers and transformers."""
