"""What shells complete: commands, models and endpoints."""
