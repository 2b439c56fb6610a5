"""Answers Transcribe and Speak: checks the request, runs it on the model, and writes its parts as they come."""
