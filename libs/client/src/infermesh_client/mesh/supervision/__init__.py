"""supervisord, which keeps the processes of a mesh running, and their logs."""
