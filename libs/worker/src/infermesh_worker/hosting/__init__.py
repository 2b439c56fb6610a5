"""The models that a worker hosts: loading, unloading, eviction, queue bound and status.

The life of a model: a ModelFolder on disk; a CatalogEntry of what could be loaded; an OpenedModel once the front has
read its tokenizer and chat template; a BuiltModel in its engine process; a HostedModel, which is the opened model, the
client of its engine process, its requests and its idle time.
"""
