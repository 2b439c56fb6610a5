"""Queues requests, orders them fairly between clients, and grants each of them an endpoint."""
