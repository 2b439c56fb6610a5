"""`infermesh transcribe` and `infermesh speak`."""
