"""When a request is sent again: retries, their budget, and hedges."""
