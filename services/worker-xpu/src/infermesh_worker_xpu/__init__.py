"""The torch worker: knows its device and its weights, nothing of requests, scheduling or the wire."""
