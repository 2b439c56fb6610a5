"""A Python environment for converters of Hugging Face models, whose libraries workers must not have."""
