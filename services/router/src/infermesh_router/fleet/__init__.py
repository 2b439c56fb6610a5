"""The endpoints as the router sees them: connections, health, circuit breakers."""
