"""`infermesh keys` and `infermesh certs`."""
